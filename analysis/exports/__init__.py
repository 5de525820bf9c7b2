"""Flux tables in the forms in which others take them: HEPData, CRDB, LaTeX.

Each writer takes flux tables by label and needs nothing but them. Synthetic, toy and incomplete
tables are called so in whatever is written.
"""

from analysis.exports.crdb import Dataset, write_crdb
from analysis.exports.hepdata import write_hepdata
from analysis.exports.latex import write_latex
from analysis.exports.tables import FluxExportError, marks, publishable, read_tables

__all__ = [
    "Dataset",
    "FluxExportError",
    "marks",
    "publishable",
    "read_tables",
    "write_crdb",
    "write_hepdata",
    "write_latex",
]
