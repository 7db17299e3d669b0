"""The browser's page, and the HTTP interface behind it."""
