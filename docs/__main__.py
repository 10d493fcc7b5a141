"""Write the files that are made from the schema, the tables of pieces and ``conf/``."""

from __future__ import annotations

from docs import ROOT, pages

for file, text in pages().items():
    file.write_text(text, "utf-8", newline="\n")
    print(file.relative_to(ROOT).as_posix())
