import json
import uuid

import awkward as ak
import numpy as np
import pytest
import uproot

from simulation.writer import SCALAR_TYPES, concatenate, write_ntuple

ID = uuid.UUID(int=7)


def part(n, seed=1):
    rng = np.random.default_rng(seed)
    columns = {k: rng.integers(0, 100, n).astype(t) for k, t in SCALAR_TYPES.items()}
    count = rng.integers(0, 5, n)
    total = int(count.sum())
    return columns | {
        "hit_count": count,
        "hit_id": rng.integers(0, 2000, total).astype(np.int32),
        "hit_mev": rng.random(total).astype(np.float32),
    }


def test_round_trip(tmp_path):
    path = tmp_path / "a.root"
    parts = [part(12_000), part(0), part(15_000, 2), part(100, 3)]
    assert write_ntuple(path, parts, {"kind": "data", "x": [1, 2]}, ID) == 27_100
    whole = concatenate(parts)
    with uproot.open(path) as file:
        assert file.file.uuid == ID
        assert json.loads(str(file["cre_metadata"])) == {"kind": "data", "x": [1, 2]}
        tree = file["DmlNtup"]
        assert tree.num_entries == 27_100
        for name, dtype in SCALAR_TYPES.items():
            values = tree[name].array(library="np")
            assert values.dtype.newbyteorder("=") == dtype
            assert (values == whole[name]).all()
        hits = tree.arrays(["tt_BgoHit_GlobalBarID", "tt_BgoHit_Energy"])
        assert (ak.num(hits["tt_BgoHit_Energy"]) == whole["hit_count"]).tolist() == [True] * 27_100
        assert (ak.to_numpy(ak.flatten(hits["tt_BgoHit_GlobalBarID"])) == whole["hit_id"]).all()
        assert (ak.to_numpy(ak.flatten(hits["tt_BgoHit_Energy"])) == whole["hit_mev"]).all()
        # the baskets make large clusters, whatever the size of the parts
        assert tree["tt_ekin"].num_baskets == 2


def test_file_without_events(tmp_path):
    path = tmp_path / "empty.root"
    assert write_ntuple(path, [], {}, ID) == 0
    with uproot.open(path) as file:
        assert file["DmlNtup"].num_entries == 0
    assert concatenate([]).keys() == part(1).keys()


def test_nothing_is_left_or_lost_when_it_fails(tmp_path):
    path = tmp_path / "a.root"
    path.write_bytes(b"old")

    def broken():
        yield part(30_000)
        msg = "no more"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="no more"):
        write_ntuple(path, broken(), {}, ID)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.root"]
