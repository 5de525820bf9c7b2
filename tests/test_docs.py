"""What the documentation says exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_row_of_the_fault_table_is_a_test() -> None:
    text = (ROOT / "docs/faults.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| (?!fault|---)", line)]
    assert len(rows) > 30
    for row in rows:
        match = re.search(r"`(tests/\S+\.py)::(test_\w+)` \|$", row)
        assert match, row
        tree = ast.parse((ROOT / match[1]).read_text("utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert match[2] in names, row


def test_links_between_documents_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "models/README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
