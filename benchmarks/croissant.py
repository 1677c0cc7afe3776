"""``python -m samplerbench.benchmarks.croissant [FOLDER]``: metadata of results, and the columns in their datasheet.

``FOLDER/croissant.json`` describes every CSV below the folder in MLCommons' Croissant 1.0; the same files give the same
bytes. Where there is a ``DATASHEET.md``, its section on columns is written anew from the same descriptions.
"""

import argparse
import csv
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .column import Column
from .described import TABLES, column_of, pattern_of, table_of
from .store import write_text

COMMAND = "python -m samplerbench.benchmarks.croissant results"
METADATA, DATASHEET = "croissant.json", "DATASHEET.md"
BEGIN, END = f"<!-- columns: written by {COMMAND} -->", "<!-- end of columns -->"
TYPES = {"text": "sc:Text", "integer": "sc:Integer", "number": "sc:Float", "boolean": "sc:Boolean"}
DESCRIPTION = (
    "What real runs of samplerbench gave: how near the draws of samplers of unnormalised densities come to certified "
    "targets, against the floor that exact draws of the same number reach, and what they cost in evaluations and "
    "seconds; certificates of the targets and the power of the metrics. See DATASHEET.md."
)
CONTEXT: dict[str, Any] = {  # as the specification prints it
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def tables(folder: Path) -> list[Path]:
    """The CSVs below a folder, sorted."""
    return sorted(folder.rglob("*.csv"))


def header(path: Path) -> list[str]:
    """The names of the columns of a CSV."""
    with path.open(newline="") as file:
        return next(csv.reader(file))


def croissant(folder: Path) -> dict[str, Any]:
    """Croissant metadata of a folder of results.

    Args:
        folder: whose parent holds CITATION.cff and LICENSE.
    Raises:
        UnknownNameError: for a CSV or a column that ``described.TABLES`` does not describe.
    """
    cited = _top_level((folder.parent / "CITATION.cff").read_text())
    authors = re.findall(r'^authors:\n  - name: "?(.*?)"?$', (folder.parent / "CITATION.cff").read_text(), re.MULTILINE)
    year: str = re.findall(r"^Copyright \(c\) (\d{4})", (folder.parent / "LICENSE").read_text(), re.MULTILINE)[0]
    released = cited.get("date-released", year)
    files = tables(folder)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "samplerbench-results",
        "description": DESCRIPTION,
        "license": f"https://spdx.org/licenses/{cited['license']}.html",
        # a home on the web and a day of release belong to CITATION.cff; until it has them, the page beside this file
        # and the year of the licence are what is known
        "url": cited.get("url", cited.get("repository-code", DATASHEET)),
        "creator": [{"@type": "sc:Organization", "name": name} for name in authors],
        "datePublished": released,
        "version": cited["version"],
        "citeAs": f"@software{{samplerbench, title = {{{cited['title']}}}, author = {{{' and '.join(authors)}}}, "
        f"version = {{{cited['version']}}}, year = {{{released[:4]}}}}}",
        "keywords": ["sampling", "MCMC", "neural samplers", "benchmark", "unnormalised densities"],
        "isLiveDataset": False,
        "distribution": [_file(path, folder) for path in files],
        "recordSet": [_records(path, folder) for path in files],
    }


def _top_level(text: str) -> dict[str, str]:
    """The plain entries of a CITATION.cff: ``key: value`` lines that are not indented."""
    return dict(re.findall(r'^([a-z-]+): "?(.+?)"?$', text, re.MULTILINE))


def _file(path: Path, folder: Path) -> dict[str, Any]:
    name, content = path.relative_to(folder).as_posix(), path.read_bytes()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": f"One row is {table_of(path.stem).rows}.",
        "contentUrl": name,
        "contentSize": f"{len(content)} B",
        "encodingFormat": "text/csv",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _records(path: Path, folder: Path) -> dict[str, Any]:
    file, table = path.relative_to(folder), table_of(path.stem)
    name = file.with_suffix("").as_posix()
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"One record is {table.rows}; an empty cell is unknown or does not apply.",
        **({"key": [{"@id": f"{name}/{column}"} for column in table.key]} if table.key else {}),
        "field": [_field(column_of(path.stem, column), name, file.as_posix()) for column in header(path)],
    }


def _field(column: Column, records: str, file: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{column.name}",
        "name": column.name,
        "description": f"{column.meaning}{f'; unit: {column.unit}' if column.unit else ''}.",
        "dataType": TYPES[column.kind],
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
    }


def to_json(metadata: dict[str, Any]) -> str:
    """Metadata as text, a field of a record to a line: a change of one shows as one."""
    text = json.dumps(metadata, indent=1, ensure_ascii=False)
    field = re.compile(r'\{\s+"@type": "cr:Field".*?\n    \}(?=,?\n)', re.DOTALL)
    return field.sub(lambda found: re.sub(r"\n\s*", " ", found.group()), text) + "\n"


def columns_section(kinds: Iterable[str] = TABLES) -> str:
    """The described columns as Markdown, a table per kind of file."""
    lines = [BEGIN]
    for kind in kinds:
        table = TABLES[kind]
        lines += [
            "", f"### {kind}.csv", "", f"A row is {table.rows}.", "", "| column | type | unit | meaning |",
            "|---|---|---|---|",
        ]  # fmt: skip
        lines += [
            f"| `{c.name}` | {c.kind} | {c.unit} | {c.meaning[0].upper()}{c.meaning[1:]} |" for c in table.columns
        ]
    return "\n".join([*lines, "", END])


def with_columns(datasheet: str) -> str:
    """A datasheet with its section on columns written anew.

    Raises:
        ValueError: if it has no such section.
    """
    before, begin, rest = datasheet.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"a datasheet must have the lines {BEGIN!r} and {END!r}")
    return f"{before}{columns_section()}{after}"


def undescribed(folder: Path) -> list[str]:
    """Columns of the CSVs below a folder that ``described.TABLES`` does not describe, as ``file: column``."""
    found = []
    for path in tables(folder):
        for column in header(path):
            try:
                pattern_of(path.stem, column)
            except KeyError:
                found.append(f"{path.relative_to(folder).as_posix()}: {column}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Write croissant.json of a folder of results, and the columns in its DATASHEET.md."""
    parser = argparse.ArgumentParser(prog="samplerbench.benchmarks.croissant", description=main.__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results"), help="(default %(default)s)")
    folder: Path = parser.parse_args(arguments).folder
    folder = folder.resolve()
    write_text(folder / METADATA, to_json(croissant(folder)))
    print(f"written: {folder / METADATA}")
    datasheet = folder / DATASHEET
    if datasheet.is_file():
        write_text(datasheet, with_columns(datasheet.read_text()))
        print(f"written: {datasheet}")


if __name__ == "__main__":
    main()
