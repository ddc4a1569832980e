"""Features are scaled alike whoever looks at which of them, and whether they are held or scaled while copied."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import RunConfig
from common.data import features, moments
from common.data.dataset import Dataset, Raw, check
from common.data.feature_scaling import Scaling
from common.data.features import HeldFeatures, MappedFeatures
from common.data.maps import map_array, map_of
from common.data.moments import Of, merged, n_pieces, of_piece, own_pieces, piece, usual_values
from common.data.preprocessing import Category, Number, Preprocessing
from common.data.stacked import Matrix, Stacked, behind, is_mapped
from common.data.training_features import add_digests, digests, scale, scale_alone, tables
from common.errors import DataError
from common.flat import Array
from tests.ranks import PROGRAMS, mpirun
from tests.test_resume import parameters

RNG = np.random.default_rng(0)


def dataset(x: Matrix, **more: Any) -> Dataset:
    y = np.arange(len(x)) % 2
    return check(Raw("data", x, y, **more), RunConfig())


def of_job(data: Dataset, size: int) -> Array:
    """Return the tables of all pieces as so many ranks make them."""
    return np.asarray(np.sum([tables(data, rank, size) for rank in range(size)], axis=0))


def table(x: Array, weight: Array | None = None, train: Array | None = None) -> Array:
    """Return the merged table of some rows."""
    train = np.arange(len(x)) if train is None else train
    counts = np.zeros(len(x), bool if weight is None else float)
    counts[train] = True if weight is None else weight[train]
    usual = usual_values(x, train, weight)
    n = n_pieces(x.shape)
    return merged((of_piece(x, counts, usual, piece(len(x), i, n)) for i in range(n)), x.shape[1])


def scaled(x: Array, **more: Any) -> Dataset:
    data = dataset(x, **more)
    scale_alone(data, "float64", standardize=True)
    return data


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64", "float64"])
def test_moments_are_numpys_and_have_the_same_bits_for_every_number_of_ranks(dtype: str) -> None:
    x = (RNG.standard_normal((997, 5)) * [1, 30, 5, 2, 1] + [0, 100, 90, 7, 50]).clip(0, 255).astype(dtype)
    data = dataset(x)
    one = of_job(data, 1)
    for size in (2, 3, 7, 64, 100):
        assert of_job(data, size).tobytes() == one.tobytes()
    found, training = merged(one, 5), x[data.train].astype(np.float64)
    np.testing.assert_allclose(found[Of.MEAN], training.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(found[Of.SQUARES], training.var(axis=0) * len(training), rtol=1e-12)
    np.testing.assert_array_equal(found[[Of.LOW, Of.HIGH]], [training.min(axis=0), training.max(axis=0)])
    np.testing.assert_array_equal(found[[Of.LOWEST, Of.HIGHEST]], [x.min(axis=0), x.max(axis=0)])
    assert (found[Of.COUNT] == len(training)).all()


def test_columns_far_from_zero_keep_their_digits() -> None:
    x = 1e9 + RNG.standard_normal((5000, 2))
    np.testing.assert_allclose(np.sqrt(table(x)[Of.SQUARES] / len(x)), x.std(axis=0), rtol=1e-7)


@given(n=st.integers(1, 200), pieces=st.integers(1, 64), size=st.integers(1, 80))
def test_pieces_are_all_rows_once(n: int, pieces: int, size: int) -> None:
    rows = [row for i in range(pieces) for row in range(*piece(n, i, pieces).indices(n))]
    assert rows == list(range(n))
    assert [i for rank in range(size) for i in own_pieces(pieces, rank, size)] == list(range(pieces))


def test_a_weight_is_so_many_rows() -> None:
    x = np.where(RNG.random((400, 3)) < [0.5, 0.004, 0.01], RNG.standard_normal((400, 3)), 7.0)
    x[5, 0] = np.nan
    weight = RNG.integers(1, 5, 400).astype(float)
    weighted, repeated = table(x, weight), table(np.repeat(x, weight.astype(int), axis=0))
    assert weighted[Of.COUNT][0] == weight.sum() - weight[5]
    for field in (Of.COUNT, Of.MEAN, Of.SQUARES, Of.LOW, Of.HIGH, Of.USUAL):
        np.testing.assert_allclose(weighted[field], repeated[field], rtol=1e-12)


def test_missing_numbers_are_no_part_of_moments() -> None:
    x = RNG.standard_normal((500, 2)).astype(np.float32)
    x[::3, 1] = np.nan
    found = table(x)
    np.testing.assert_allclose(found[Of.MEAN], np.nanmean(x.astype(float), axis=0), rtol=1e-12)
    np.testing.assert_allclose(found[Of.SQUARES] / found[Of.COUNT], np.nanvar(x.astype(float), axis=0), rtol=1e-12)
    assert found[Of.MISSING].tolist() == [0, 167]
    assert np.isfinite(found[[Of.LOW, Of.HIGH]]).all()


@pytest.mark.parametrize("stored", ["uint8", "float32", "int64", "float64", ">f4", "bool"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("missing", [False, True])
def test_copied_rows_have_the_bits_of_held_ones(
    stored: str, dtype: str, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "BLOCK_NUMBERS", 100)
    x = (RNG.standard_normal((60, 7)) * 40 + 100).clip(0, 255).astype(stored)
    fill, kept = RNG.standard_normal(4), np.array([0, 2, 5, 6])
    scaling = Scaling(7, RNG.standard_normal(4), RNG.random(4) + 1, fill, kept)
    if missing and x.dtype.kind == "f":
        x[3, 2] = np.nan
    held = features.scaled(x, scaling, dtype, missing=missing, moderate=True)
    monkeypatch.setattr(features, "MOST_HELD", 0)
    monkeypatch.setattr(features, "MOST_HELD_OF_MAPS", 0)
    copied = features.scaled(x, scaling, dtype, missing=missing, moderate=True)
    assert isinstance(held, HeldFeatures)
    assert isinstance(copied, MappedFeatures)
    assert held.shape == copied.shape == (60, 4)
    numbers, one, other = RNG.permutation(60)[:50], *np.empty((2, 50, 5), dtype)
    held.take(numbers, one)
    copied.take(numbers, other)
    assert one.tobytes() == other.tobytes()
    assert np.array_equal(copied[numbers], one[:, :-1])
    assert np.array_equal(copied[5:20], held[5:20])
    used = x[:, kept].astype(float)
    expected = (np.where(np.isnan(used), fill, used) - scaling.mean) / scaling.scale
    np.testing.assert_allclose(held[:], expected, rtol=1e-5 if dtype == "float32" else 1e-14, atol=1e-6)


def test_numbers_near_the_limit_of_float32_do_not_overflow_on_the_way() -> None:
    x = np.where(RNG.random((200, 2)) < 0.5, -3e38, 3e38).astype(np.float32)
    data = dataset(x)
    scale_alone(data, "float32", standardize=True)
    np.testing.assert_allclose(np.abs(data.x[:]), 1, atol=0.2)


def columns(missing: bool = True) -> Preprocessing:
    return Preprocessing((Number("size", missing=missing), Number("same"), Category("town", ("Bern", "Ulm"))))


def encoded() -> Array:
    """Return the features of such a table: size, whether it is missing, same, Bern, Ulm."""
    x = np.zeros((200, 5), np.float32)
    x[:, 0], x[::7, 0] = RNG.standard_normal(200) * 30 + 500, np.nan
    x[:, 1], x[:, 2], x[:, 3] = np.isnan(x[:, 0]), 4, np.arange(200) % 3 == 0
    x[:, 4] = 1 - x[:, 3]
    return x


def test_a_missing_number_is_the_mean_of_training_rows_and_constant_features_are_left_out() -> None:
    x = encoded()
    data = scaled(x, preprocessing=columns(), feature_names=columns().features())
    kept, known = data.x_scaling.kept, x[data.train, 0][~np.isnan(x[data.train, 0])].astype(float)
    assert kept is not None
    assert (kept.tolist(), data.n_features, data.x.shape[1]) == ([0, 1, 3, 4], 5, 4)
    np.testing.assert_allclose(data.x_scaling.mean[0], known.mean(), rtol=1e-12)
    np.testing.assert_array_equal(data.x[:][np.isnan(x[:, 0]), 0], 0)
    np.testing.assert_array_equal(data.x[:][:, 1:], x[:, [1, 3, 4]])  # 0 and 1 stay
    assert "1 feature is left out, the same in all training rows: 'same'." in data.notes
    plain = dataset(x, preprocessing=columns())
    scale_alone(plain, "float64", standardize=False)
    np.testing.assert_allclose(plain.x[:][np.isnan(x[:, 0]), 0], known.mean())


def test_features_of_an_array_all_stay() -> None:
    """A model of one's own may know their places."""
    data = scaled(np.column_stack([np.full(60, 3.0), RNG.standard_normal(60)]))
    assert data.x_scaling.kept is data.x_scaling.fill is None
    np.testing.assert_array_equal(data.x[:, 0], 0)


def test_a_table_without_any_varying_feature_is_refused() -> None:
    with pytest.raises(DataError, match="every feature is the same in all training rows"):
        scaled(np.ones((60, 1), np.float32), preprocessing=Preprocessing((Number("a"),)))


@pytest.mark.parametrize(("wrong", "prepared"), [(np.nan, False), (np.inf, False), (-np.inf, True)])
def test_numbers_that_are_not_finite_are_named(tmp_path: Path, wrong: float, prepared: bool) -> None:
    x = encoded() if prepared else RNG.standard_normal((200, 5))
    x[123, 2] = wrong
    np.save(tmp_path / "x.npy", x)
    more: dict[str, Any] = {"preprocessing": columns(), "feature_names": columns().features()} if prepared else {}
    with pytest.raises(DataError, match=f"row 123, column {chr(39) + 'same' + chr(39) if prepared else 2}: got -?"):
        scaled(map_array(tmp_path / "x.npy"), **more)


def test_a_rare_value_is_not_far_away_and_heavy_tails_stay() -> None:
    n = 20_000
    pixel, tail = np.zeros(n), RNG.standard_t(1.5, n)
    pixel[RNG.choice(n, 5, replace=False)] = 200
    often = np.where(RNG.random(n) < 0.08, np.exp(8 + RNG.standard_normal(n)), 0)
    data = dataset(np.column_stack([pixel, pixel + 1e6, tail, often, RNG.standard_normal(n)]))
    data.train = np.arange(n)
    scale_alone(data, "float64", standardize=True)
    x = data.x[:]
    assert np.abs(x[:, :2]).max() == pytest.approx(10, rel=0.02)
    np.testing.assert_allclose(x[:, 2:].std(axis=0), 1, rtol=1e-9)


def bytes_of(columns: int, most: int, dtype: str = "uint8") -> Array:
    x = RNG.integers(0, most + 1, (300, columns)) * np.linspace(0.3, 1, columns)
    x[:, 0] = 0
    return x.astype(np.uint8).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_bytes_have_one_scale(dtype: str) -> None:
    x = bytes_of(64, 255, dtype)
    data = scaled(x)
    training = x[data.train].astype(float)
    np.testing.assert_allclose(data.x_scaling.mean, training.mean(), rtol=1e-12)
    np.testing.assert_allclose(data.x_scaling.scale, training.std(), rtol=1e-12)
    assert any("64 columns of bytes (whole numbers from 0 to 255) are scaled as one" in note for note in data.notes)


@pytest.mark.parametrize(
    ("x", "block"),
    [
        (bytes_of(64, 16), False),  # digits
        (bytes_of(63, 255, "float32"), False),
        (bytes_of(10, 255), True),  # an array of bytes
        (np.column_stack([bytes_of(10, 255), bytes_of(2, 1)]), False),  # with flags beside them
        (bytes_of(70, 255, "float32") + np.float32(0.5), False),
        (bytes_of(70, 255, "float32") / 255, True),
        (bytes_of(70, 255, "float64") / 255, True),
        (bytes_of(70, 255, "float64") / 100, False),
        (bytes_of(70, 1, "float64"), False),  # flags
    ],
)  # fmt: skip
def test_which_numbers_are_bytes(x: Array, block: bool) -> None:
    assert (len({*scaled(x).x_scaling.scale.tolist()}) == 1) == block


def with_given(x: Array, given: dict[str, Array], **more: Any) -> Dataset:
    data = dataset(x, **more)
    scale(data, tables(data, 0, 1), "float64", standardize=True, given=given)
    return data


def test_a_given_scaling_is_taken_over() -> None:
    x = encoded()
    first = scaled(x, preprocessing=columns())
    arrays = first.x_scaling.arrays()
    assert set(arrays) == {"x_mean", "x_scale", "x_fill", "x_kept"}
    again, known = with_given(x * 2, arrays, preprocessing=columns()), ~np.isnan(x[:, 0])
    np.testing.assert_allclose(again.x[:][known, 0], (2 * x[known, 0] - arrays["x_mean"][0]) / arrays["x_scale"][0])
    np.testing.assert_array_equal(again.x[:][~known, 0], 0)
    whole = np.nan_to_num(x)
    older = with_given(whole, {"x_mean": np.ones(5), "x_scale": np.full(5, 2.0)})  # there was neither fill nor kept
    np.testing.assert_array_equal(older.x[:], (whole.astype(float) - 1) / 2)
    for wrong in ({"x_mean": np.ones(4), "x_scale": np.ones(4)}, {**arrays, "x_kept": np.array([0, 1, 3, 5])}):
        with pytest.raises(DataError, match="5 features, but the parameters to start from were trained on"):
            with_given(whole, wrong)


def test_maps_are_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", RNG.standard_normal((300, 4)))
    x = map_array(tmp_path / "x.npy")
    joined = behind([x[:200], x[200:250], x[250:]])
    assert map_of(joined[:]) is map_of(x) is not None
    assert isinstance(joined, np.ndarray)
    np.testing.assert_array_equal(joined, x)
    assert isinstance(behind([x[:200], x[210:]]), Stacked)
    assert not is_mapped(behind([x, x.copy()]))
    with pytest.raises(ValueError, match="read-only"):
        joined[0, 0] = 1
    data = dataset(x[:200], test=(x[200:], np.arange(100) % 2))
    assert map_of(data.x) is map_of(x)  # type: ignore[arg-type]


def test_the_digest_of_a_map_is_that_of_its_pieces_whoever_reads_them(tmp_path: Path) -> None:
    def read(x: Array) -> Dataset:
        np.save(tmp_path / "x.npy", x)
        data = dataset(map_array(tmp_path / "x.npy"))
        assert data.unread
        return data

    x, found = RNG.standard_normal((300, 4)), set[str]()
    for size in (1, 2, 5, 64):
        data = read(x)
        found_by = [np.frombuffer(digests(data, rank, size), np.uint8) for rank in range(size)]
        add_digests(data, bytes(np.bitwise_or.reduce(found_by)))
        found.add(data.sha256)
    assert len(found) == 1
    x[299, 3] += 1e-9
    other = read(x)
    add_digests(other, bytes(digests(other, 0, 1)))
    assert other.sha256 not in found


def test_jobs_that_copy_rows_of_a_map_end_with_the_bits_of_those_that_hold_them(tmp_path: Path) -> None:
    """And any number of ranks agrees on the scaling to the bit."""
    x = RNG.standard_normal((700, 9)).astype(np.float32) * 5 + 100
    np.save(tmp_path / "X.npy", x)
    np.save(tmp_path / "y.npy", (x[:, 0] + x[:, 1] > 200).astype(np.int64) + (x[:, 2] > 100))

    def run(name: str, ranks: int, *program: str) -> dict[str, Array]:
        options = ("--epochs", "2", "--hidden", "20", "--output", str(tmp_path / name))
        result = mpirun(ranks, *program, "--data", str(tmp_path / "X.npy"), *options)
        assert result.code == 0, result.err
        return parameters(tmp_path / name)

    alone = run("alone", 1, "-m", "workers.run")
    for mode in ("shared", "factors"):
        held = run(f"held-{mode}", 2, "-m", "workers.run", "--mode", mode)
        copied = run(f"copied-{mode}", 2, str(PROGRAMS / "mapped.py"), "--mode", mode)
        for name, array in held.items():
            assert array.tobytes() == copied[name].tobytes(), name
        for name in ("x_mean", "x_scale"):
            assert held[name].tobytes() == alone[name].tobytes()


def test_files_one_behind_the_other_are_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets and numbered files of their own: same bits of statistics, hash and rows as one file of all."""
    whole = RNG.standard_normal((333, 3))
    whole[:, 2] = RNG.permutation(333)  # which a warning names, of the rows of all sets
    for i, part in enumerate([whole, *np.split(whole, [100, 101, 250])]):
        np.save(tmp_path / f"{i}.npy", part)
    one, *parts = (map_array(tmp_path / f"{i}.npy") for i in range(5))
    stacked = behind([behind(parts[:3]), parts[3]])
    assert isinstance(stacked, Stacked)
    assert (stacked.shape, stacked.dtype, stacked.nbytes) == (one.shape, one.dtype, 0)
    for key in (slice(0, 333), slice(99, 102), slice(50, 50), slice(120, None), RNG.permutation(333), np.arange(0)):
        np.testing.assert_array_equal(stacked[key], one[key])
    np.testing.assert_array_equal(stacked[:16, 1:], one[:16, 1:])
    np.testing.assert_array_equal(stacked.first(150)[:], one[:150])
    assert map_of(stacked[101:250]) is map_of(parts[2])
    monkeypatch.setattr(features, "MOST_HELD", 0)
    monkeypatch.setattr(features, "MOST_HELD_OF_MAPS", 0)
    y = np.arange(250) % 2
    both = [dataset(x, test=(test, y[:83])) for x, test in ((one[:250], one[250:]), (behind(parts[:3]), parts[3]))]
    for data in both:
        assert "X, column 2 numbers the rows" in " ".join(data.notes)
        assert data.unread
        add_digests(data, bytes(digests(data, 0, 1)))
    assert both[0].sha256 == both[1].sha256
    assert of_job(both[0], 1).tobytes() == of_job(both[1], 3).tobytes()
    for data in both:
        scale_alone(data, "float32", standardize=True)
    scaled_one, scaled_parts = (data.x for data in both)
    assert isinstance(scaled_parts, MappedFeatures)
    assert scaled_parts.nbytes == 0
    rows = RNG.permutation(333)
    np.testing.assert_array_equal(scaled_parts[rows], scaled_one[rows])
    scaled_parts.read_ahead(np.arange(90, 110))
