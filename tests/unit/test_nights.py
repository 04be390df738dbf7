import io
import json
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.reviews.corpus import read_corpus
from sentiment_core.reviews.labels import read_labels
from sentiment_core.reviews.nights import Sizes, expected_identities, plan_nights
from sentiment_core.reviews.read import read_reviews
from sentiment_core.reviews.sample import generate
from sentiment_core.settings import REPOSITORY

LAST = date(2026, 11, 20)
SMALL = Sizes(n_training=400, n_quiet=120, n_mixed=(160, 80))


@pytest.fixture(scope="module")
def plan():
    return plan_nights(reviews_dir=None, seed=3, last_date=LAST, sizes=SMALL)


@pytest.fixture(scope="module")
def limits():
    from sentiment_core.policy import read_policy

    return read_policy(REPOSITORY / "include" / "policy.toml").reading


def read(night, limits):
    batches = [
        batch
        for delivery in night.deliveries
        for batch in read_reviews(io.BytesIO(delivery.data), delivery.name, folder_date=night.date, limits=limits)
    ]
    return pa.concat_tables([batch.table for batch in batches]), [reject for batch in batches for reject in batch.rejects]


def identities(table):
    return list(zip(table["review_date"].to_pylist(), table["review_id"].to_pylist(), strict=True))


def write_films(path, n, *, seed=1, **columns):
    """Synthetic films as somebody's Parquet file; `columns` maps a new name to a function of the table, None drops it."""
    table = generate(n, domain=columns.pop("of", "films"), seed=seed)
    for name, make in columns.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        if make is not None:
            table = table.append_column(name, make(table))
    pq.write_table(table, path)


def positive(table):
    return pa.array([int(rating >= 3) for rating in table["rating"].to_pylist()])


def test_quiet_nights_come_first_and_the_last_night_is_the_last_date(plan):
    assert [night.is_mixed for night in plan.nights] == [False, False, False, True, True]
    assert [night.date for night in plan.nights] == [LAST - timedelta(days=back) for back in (4, 3, 2, 1, 0)]


def test_the_training_set_is_a_snapshot_of_standing_rows(plan):
    assert plan.training.schema == schema.SNAPSHOT
    assert set(plan.training["origin"].to_pylist()) == {"standing"}
    assert len(plan.training) >= SMALL.n_training


def test_products_of_the_training_set_are_in_no_night(plan, limits):
    known = set(plan.training["product_id"].to_pylist())
    delivered = {product for night in plan.nights for product in read(night, limits)[0]["product_id"].to_pylist()}
    assert delivered
    assert not known & delivered


def test_the_naive_recount_and_the_machine_accept_the_same_reviews(plan, limits):
    for night in plan.nights:
        found = identities(read(night, limits)[0])
        assert set(found) == expected_identities(night)
        assert len(found) > len(set(found)), "some reviews come twice"


def test_every_night_has_rows_that_no_reader_accepts(plan, limits):
    for night in plan.nights:
        reasons = " ".join(reject.reason for reject in read(night, limits)[1])
        for column in ("review_id", "text", "created_at", "NUL"):
            assert column in reasons


def test_reviews_are_delivered_without_ratings(plan, limits):
    assert all(read(night, limits)[0]["rating"].null_count == len(read(night, limits)[0]) for night in plan.nights)


def test_half_of_a_mixed_night_is_foreign_and_a_quiet_night_has_none(plan, limits):
    for night in plan.nights:
        by_id = dict(zip(*(read(night, limits)[0][name].to_pylist() for name in ("review_id", "source")), strict=True))
        share = sum(source == "synthetic:electronics" for source in by_id.values()) / len(by_id)
        assert share == (0.5 if night.is_mixed else 0.0)


def test_labels_of_a_mixed_night_belong_to_its_reviews_and_to_a_part_of_them(plan, limits):
    for night in plan.nights:
        if not night.is_mixed:
            assert night.labels is None
            continue
        batches = list(read_labels(io.BytesIO(night.labels), "labels.jsonl", folder_date=night.date, limits=limits))
        labels = {row["review_id"]: row for batch in batches for row in batch.table.to_pylist()}
        assert not any(batch.rejects for batch in batches)
        delivered = expected_identities(night)
        assert {(night.date, review_id) for review_id in labels} < delivered
        assert all(row["labelled_at"].date() == night.date + timedelta(days=1) for row in labels.values())


def test_the_same_seed_gives_the_same_bytes(plan):
    again = plan_nights(reviews_dir=None, seed=3, last_date=LAST, sizes=SMALL)
    assert again.nights == plan.nights
    assert again.training.equals(plan.training)
    assert plan_nights(reviews_dir=None, seed=4, last_date=LAST, sizes=SMALL).nights != plan.nights


def test_there_may_be_quiet_nights_alone():
    plan = plan_nights(
        reviews_dir=None, seed=3, last_date=LAST, n_quiet_nights=1, sizes=Sizes(n_training=400, n_quiet=120, n_mixed=())
    )
    assert [night.is_mixed for night in plan.nights] == [False]
    assert "half of which" not in plan.story


def test_a_folder_starts_from_its_largest_file_and_mixes_in_the_least_alike(tmp_path):
    write_films(tmp_path / "cinema.parquet", 1_600, positive=positive, rating=None)
    write_films(tmp_path / "cinema_too.parquet", 200, seed=9, positive=positive)
    write_films(tmp_path / "shop.parquet", 200, of="electronics", source=None, positive=positive)
    plan = plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST, sizes=SMALL)
    assert "synthetic:films" in plan.story
    assert "half of which is shop" in plan.story


def test_a_single_file_gives_its_second_domain(tmp_path):
    films, kitchen = generate(1_600, domain="films", seed=1), generate(300, domain="kitchen", seed=1)
    pq.write_table(pa.concat_tables([films, kitchen]), tmp_path / "all.parquet")
    assert "half of which is synthetic:kitchen" in plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST, sizes=SMALL).story


def test_without_a_second_domain_synthetic_electronics_are_mixed_in_and_the_story_says_so(tmp_path):
    write_films(tmp_path / "films.parquet", 1_600)
    assert (
        "half of which is synthetic electronics" in plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST, sizes=SMALL).story
    )


def test_products_are_split_by_text_where_no_product_is_known(tmp_path, limits):
    write_films(tmp_path / "films.parquet", 1_600, product_id=None)
    plan = plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST, sizes=SMALL)
    seen = set(plan.training["text"].to_pylist())
    assert not seen & {text for night in plan.nights for text in read(night, limits)[0]["text"].to_pylist()}


def test_nights_shrink_when_there_are_fewer_reviews(tmp_path):
    write_films(tmp_path / "films.parquet", 4_000)
    plan = plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST)
    assert 800 <= len(plan.training) < 3_000
    assert all(len(expected_identities(night)) >= 250 for night in plan.nights)


def test_labels_are_words_where_no_stars_are_known(tmp_path):
    write_films(tmp_path / "films.parquet", 1_600, label=positive, rating=lambda table: pa.array([8] * len(table)))
    write_films(tmp_path / "shop.parquet", 300, of="electronics", label=positive, rating=None)
    night = plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST, sizes=SMALL).nights[-1]
    lines = [json.loads(line) for line in night.labels.splitlines()]
    assert {line["label"] for line in lines} == {"positive", "negative"}
    assert not any("rating" in line for line in lines)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"rating": None}, "columns review_id"),
        ({"text": None}, "columns review_id"),
        ({"rating": lambda table: pa.array([9] * len(table))}, "not a whole number from 1 to 5"),
        ({"label": lambda table: pa.array(["meh"] * len(table))}, "holds 'meh'"),
        ({"text": lambda table: pa.array(range(len(table)))}, "of type int64"),
    ],
)
def test_a_folder_without_usable_labels_is_refused_with_the_columns_needed(tmp_path, columns, found):
    write_films(tmp_path / "a.parquet", 20, **columns)
    with pytest.raises(Permanent, match=found) as caught:
        plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST)
    assert "`positive` (0/1)" in str(caught.value)


def test_a_broken_file_beside_a_good_one_is_left_out(tmp_path):
    write_films(tmp_path / "films.parquet", 1_600)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    assert len(read_corpus(tmp_path, 1, n_foreign=100, min_foreign=50).base) == 1_600


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_parquet_is_refused(tmp_path, name):
    with pytest.raises(Permanent, match="no such"):
        plan_nights(reviews_dir=tmp_path / name, seed=1, last_date=LAST)


def test_too_few_reviews_are_refused_with_the_least_that_is_needed(tmp_path):
    write_films(tmp_path / "films.parquet", 300)
    with pytest.raises(Permanent, match="at least 800 labelled reviews"):
        plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST)


def test_reviews_of_one_kind_only_are_refused(tmp_path):
    write_films(tmp_path / "films.parquet", 1_600, positive=lambda table: pa.array([True] * len(table)))
    with pytest.raises(Permanent, match="positive ones only"):
        plan_nights(reviews_dir=tmp_path, seed=1, last_date=LAST, sizes=SMALL)


def test_rows_that_could_not_be_delivered_are_left_out(tmp_path):
    good, odd = ["a", "b", "c", "d"], ["", "\x00", None, "twice"]
    table = pa.table({"review_id": [*good, "e", "f", "g", "d"], "text": [*["fine"] * 4, *odd], "positive": [1, 0] * 4})
    pq.write_table(table, tmp_path / "few.parquet")
    assert {row.review_id for row in read_corpus(tmp_path, 1, n_foreign=10, min_foreign=5).base} == set(good)
