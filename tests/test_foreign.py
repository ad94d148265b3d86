"""Items that a user does not have, and where they come from."""

import numpy as np
import pytest

from seqrec.noise.foreign_items import ForeignItems

ITEMS = 40


def test_sources_draw_from_where_they_say(sequences_of):
    rows = [[1, 2, 3], [1, 2, 4], [1, 5, 2], [6, 7], [6, 7, 8]]
    keys = np.arange(500).astype(np.uint64)
    packed = sequences_of(rows)
    row = np.zeros(500, np.int64)

    def draw(source, row=row, **options):
        return ForeignItems(packed, np.arange(5), ITEMS, source, options.pop("power", 1.0)).draw(
            packed, row, keys, **options
        )

    assert set(draw("uniform")) == set(range(1, ITEMS + 1)) - {1, 2, 3}
    popular = draw("popularity")
    assert set(popular) == {4, 5, 6, 7, 8}
    assert np.mean(popular == 6) == pytest.approx(2 / 7, abs=0.06)  # counts of 4 to 8: 1 1 2 2 1
    assert np.mean(draw("popularity", power=0.0) == 6) == pytest.approx(1 / 5, abs=0.06)
    assert set(draw("cooccurring")) == {4, 5}
    assert set(draw("cooccurring", row + 3)) == {8}
    assert set(draw("donor")) == {4, 5, 6, 7, 8}
    one = draw("donor", donor=np.full(500, 3, np.uint64))
    assert max(np.isin(one, donor).mean() for donor in rows) > 0.6  # others only where the donor had nothing new
