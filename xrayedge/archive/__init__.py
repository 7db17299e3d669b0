"""An archive of images, screened in shards on Dask; see docs/archive.md. The extra ``archive``."""
