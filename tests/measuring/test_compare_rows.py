"""measuring.bulk: what it counts as missing, twice and different."""

from measuring.bulk import compare_rows


def make_row(path, faces=(), error=None):
    return {"path": path, "faces": list(faces), "error": error}


def test_rows_are_compared():
    alone = [make_row("a", ["face"]), make_row("b"), make_row("c", error="damaged")]
    assert compare_rows(alone, alone[::-1]) == {
        "rows": 3,
        "errors": 1,
        "faces": 1,
        "missing": 0,
        "twice": 0,
        "different": 0,
    }
    killed = [alone[0], alone[0], make_row("c", error="lost")]
    found = compare_rows(alone, killed)
    assert (found["missing"], found["twice"], found["different"]) == (1, 1, 1)
