"""Where the batch tests run, and the sample that they process."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from batch.pools import HOME, STORE, cre, ok

#: Set by run.sh in its namespaces.
INSIDE = "CRE_BATCH_INSIDE" in os.environ
REASON = os.environ.get("CRE_BATCH_SKIP", "needs the daemons of 'make test-condor'")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not INSIDE:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=REASON))


@dataclass(frozen=True)
class Sample:
    """A synthetic sample, twice: in the user's folder with its models, and on the storage.

    Attributes:
        card: Card whose ntuples, models and manifest lie in the user's folder, so that they must travel.
        stored_card: The same with ntuples on the storage; models and manifest must travel.
        wanted: Folder with the histograms of the run in this process.
        ntuples: Of ``card``.
        chunks: Of a run.
    """

    card: Path
    stored_card: Path
    wanted: Path
    ntuples: list[Path]
    chunks: int


@pytest.fixture(scope="session")
def sample() -> Sample:
    """5230 synthetic events in 15 chunks, all shipped networks of the fiducial region, and the run."""
    from cre.card import shipped_card  # noqa: PLC0415 - pytest reads this file where nothing of ours is
    from models.catalogue import ZOO  # noqa: PLC0415

    folder, ntuples = HOME / "sample", HOME / "ntuples"  # which run.sh simulated
    folder.mkdir()
    files = sorted(ntuples.glob("*.root"))
    shutil.copytree(ntuples, STORE / "ntuples")
    for name in ("dnn", "cnn", "hamf"):
        shutil.copy(ZOO / f"{name}_fiducial.onnx", folder / f"my_{name}.onnx")
    shutil.copy(ZOO / "omega_fiducial.json", folder / "my_omega.json")
    card = yaml.safe_load(shipped_card("omega").read_text("utf-8"))
    card["models"] = {"fiducial": {n: f"my_{n}.onnx" for n in ("dnn", "cnn", "hamf")}}
    card["models"]["fiducial"]["omega"] = "my_omega.json"
    card["chunk_size"] = 300
    cards = []
    for name, place in (("home", ntuples), ("stored", STORE / "ntuples")):
        ok(cre("manifest", *(place / f.name for f in files), "-o", folder / f"{name}.json"))
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(card | {"manifest": f"{name}.json"}), "utf-8")
        cards.append(path)
    wanted = folder / "run"
    told = ok(cre("run", cards[0], "-o", wanted))
    chunks = int(told.said.split(" chunks")[0].split()[-1])
    assert chunks == 15
    return Sample(cards[0], cards[1], wanted, files, chunks)


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Path:
    """A folder of the user's for one test; /tmp is no place that batch systems like."""
    name = f"{request.path.stem}.{request.node.name}".replace("[", ".").replace("]", "")
    folder = HOME / name
    folder.mkdir()
    return folder
