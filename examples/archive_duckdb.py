"""Query an archive's results with SQL, in DuckDB (`pip install duckdb`).

    python examples/archive_duckdb.py FOLDER

FOLDER is what `xrayedge archive INPUT --out FOLDER` made. DuckDB reads the columns that a query
names, and takes no more memory than it is given.
"""

import sys

import duckdb

QUESTIONS = {
    "what became of the images": """
        SELECT status, coalesce(label, reason) AS what, count(*) AS images,
               round(avg(timings_ms.total), 1) AS ms
        FROM rows GROUP BY ALL ORDER BY images DESC
    """,
    "by the folder of the image": """
        SELECT regexp_extract(source, '([^/]*)/[^/]*$', 1) AS folder, count(*) AS images,
               round(avg(CAST(label <> 'healthy' AS INTEGER)), 3) AS called_ill
        FROM rows GROUP BY ALL ORDER BY images DESC LIMIT 20
    """,
    "copies of one file": """
        SELECT left(sha256, 12) AS sha256, count(*) AS copies
        FROM rows WHERE sha256 IS NOT NULL GROUP BY ALL HAVING count(*) > 1
        ORDER BY copies DESC LIMIT 10
    """,
    "the strongest opacities": """
        SELECT round(opacity.score, 3) AS score, source
        FROM (SELECT source, unnest(opacities) AS opacity FROM rows)
        ORDER BY opacity.score DESC LIMIT 10
    """,
}

database = duckdb.connect()
parts = f"{sys.argv[1]}/parts/*.parquet".replace("'", "''")
database.execute(f"CREATE VIEW rows AS SELECT * FROM read_parquet('{parts}')")
for question, query in QUESTIONS.items():
    print(f"{question}:")
    print(database.sql(query))
