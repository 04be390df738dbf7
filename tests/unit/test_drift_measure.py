"""Nights against a reference, out of rows that are drawn: what is quiet, what is found, what is put down to what."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sentiment_core import schema
from sentiment_core.drift.accuracy import Rightness, compare_labels
from sentiment_core.drift.checks import COPIES, EVIDENCE, GIBBERISH, LABELLED_FALL, PLAUSIBLE, SURPRISE, checks, failures
from sentiment_core.drift.history import History, Labels, Night, PastNight, Statistics
from sentiment_core.drift.measure import measure
from sentiment_core.drift.places import Asked
from sentiment_core.drift.reference import Reference
from sentiment_core.drift.surprise import Products, all_together
from sentiment_core.drift.verdict import conclude
from sentiment_core.policy import read_policy

LIMITS = replace(read_policy(Path(__file__).parents[2] / "include" / "policy.toml").drift, mode="threshold", min_reviews=50)
N_TOPICS = 12
FIRST = date(2026, 3, 2)
NO_HISTORY = History()


def draw(n, seed, *, shift=0.0, harm=0.0, n_products=None, positive=0.5, product_sigma=0.0):
    """Reviews with columns of the reference; `shift` moves every topic, `harm` makes labels wrong and the model unsure."""
    rng = np.random.default_rng(seed)
    products = rng.integers(n_products, size=n) if n_products else np.arange(n)
    own = rng.normal(0, product_sigma, (products.max() + 1, N_TOPICS))[products]
    is_positive = rng.random(n) < positive
    confidence = np.clip(rng.beta(8, 1.5, n) * 0.5 + 0.5 - harm, 0.5, 1)
    is_right = rng.random(n) < confidence
    label = np.where(is_right == is_positive, "positive", "negative")
    n_words = rng.integers(40, 300, n)
    columns = {
        "p_positive": np.where(label == "positive", confidence, 1 - confidence),
        "n_chars": n_words * 5,
        "n_words": n_words,
        "unknown_share": rng.random(n) / 20,
        "upper_share": rng.random(n) / 20,
        "non_letter_share": rng.random(n) / 10,
        "label": label,
        "confidence": confidence,
        "known_confidence": confidence,
        "true_label": np.where(is_positive, "positive", "negative"),
        "product_id": pa.array([f"p{number}" for number in products] if n_products else [None] * n, pa.string()),
        "surprise": rng.normal(7, 0.5, n) + rng.normal(0, 3, n) / np.sqrt(n_words),
        "strange_share": rng.random(n) / 10,
        "distinct_share": rng.normal(0.7, 0.05, n),
        "negation_share": rng.random(n) / 30,
        "n_sentences": n_words // 15,
        "topics": list((rng.normal(0, 1, (n, N_TOPICS)) + own + shift + 0.2 * is_positive[:, np.newaxis]).astype(np.float32)),
    }
    return pa.table({name: columns[name] for name in schema.REFERENCE.names}).cast(schema.REFERENCE)


REFERENCE = Reference.of(draw(8_000, 0), LIMITS)


def night(rows, *, day=None, labels=None):
    return Night(rows=rows, n=len(rows), window_date=day, labels=labels)


def judge(rows, *, reference=REFERENCE, history=NO_HISTORY, limits=LIMITS, day=None, labels=None):
    measured = measure(reference, night(rows, day=day, labels=labels), history=history, limits=limits)
    failed = failures(checks(measured, limits))
    return measured, conclude(measured, failed, limits), failed


def past(days, *, verdict="quiet", n=1_000, seed=100, **how):
    found = []
    for back in range(days, 0, -1):
        rows = draw(n, seed + back, **how)
        measured, _, _ = judge(rows)
        found.append(
            PastNight(
                window_date=FIRST - timedelta(days=back), n=n, verdict=verdict, p_value=measured.p_value, effect=measured.effect,
                statistics=measured.statistics,
            )
        )  # fmt: skip
    return tuple(found)


def replaced(rows, name, values):
    return rows.set_column(
        rows.column_names.index(name), rows.schema.field(name), pa.array(values).cast(rows.schema.field(name).type)
    )


def test_a_reference_survives_its_bytes():
    again = Reference.from_bytes(REFERENCE.to_bytes())
    assert again.rows.equals(REFERENCE.rows)
    assert (again.names, again.left_out, again.spread) == (REFERENCE.names, REFERENCE.left_out, REFERENCE.spread)
    rows = draw(500, 1)
    assert judge(rows, reference=again)[0] == judge(rows)[0]


def test_quiet_nights_have_p_values_that_are_not_too_small():
    p_values = [judge(draw(600, seed))[0].p_value for seed in range(200, 320)]
    assert np.mean(np.array(p_values) < 0.1) < 0.2
    assert min(p_values) > 1e-4


def test_reviews_of_few_products_are_no_alarm():
    """Products differ by as much as reviews do; thirty of them make a night."""
    grouped = Reference.of(draw(6_000, 1, n_products=800, product_sigma=1.0), LIMITS)
    measured = [judge(draw(600, seed, n_products=30, product_sigma=1.0), reference=grouped)[0] for seed in range(400, 440)]
    assert np.mean([item.p_value < 0.01 for item in measured]) <= 0.05
    blind = Reference.of(draw(6_000, 1, product_sigma=1.0), LIMITS)
    alarms = [
        judge(draw(600, seed, n_products=30, product_sigma=1.0), reference=blind)[0].p_value < 0.01 for seed in range(400, 440)
    ]
    assert np.mean(alarms) > 0.5


GROUPED = Reference.of(draw(6_000, 1, n_products=800, product_sigma=0.3), LIMITS)
# Among twelve topics reviews of one odd product lie as near as copies do.
ANY_COPIES = replace(LIMITS, quarantine_share=1.0)


def few_products(seed, *, odd, n=600, n_products=12):
    """Reviews of few products, of which those that are odd are written of as none of the reference's is."""
    rows = draw(n, seed, n_products=n_products, product_sigma=0.3)
    topics = np.array(rows["topics"].to_pylist()) + 3.0 * np.isin(rows["product_id"].to_pylist(), odd)[:, np.newaxis]
    return replaced(rows, "topics", list(topics.astype(np.float32)))


def without(rows, product):
    return rows.filter(pc.not_equal(rows["product_id"], product))


def test_one_product_that_is_unlike_all_others_is_no_drift_and_the_sentence_says_so():
    rows = few_products(1, odd=["p7"])
    measured, verdict, _ = judge(rows, reference=GROUPED, limits=ANY_COPIES)
    assert measured.p_whole < LIMITS.warn_p < measured.p_value
    assert verdict.verdict == "quiet"
    assert "One product alone (7.8 % of the reviews) would make it unusual" in verdict.sentence
    assert judge(without(rows, "p7"), reference=GROUPED, limits=ANY_COPIES)[0].p_whole > LIMITS.warn_p


def test_several_products_unlike_all_others_are_drift():
    measured, verdict, _ = judge(few_products(1, odd=["p7", "p8", "p9"]), reference=GROUPED, limits=ANY_COPIES)
    assert measured.p_value < LIMITS.warn_p
    assert verdict.verdict == "warn"


@pytest.mark.parametrize("n_others", [0, 100])
def test_a_night_of_one_product_is_judged_by_it(n_others):
    rows = few_products(2, odd=["p0"], n=300, n_products=1)
    others = few_products(3, odd=["p0"], n=n_others + 1, n_products=100)
    measured, verdict, _ = judge(
        pa.concat_tables([rows, without(others, "p0")]).combine_chunks(), reference=GROUPED, limits=ANY_COPIES
    )
    assert measured.p_value < LIMITS.warn_p
    assert verdict.verdict == "warn"


@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_is_judged_as_if_the_product_had_never_come(seed):
    def surprise(rows):
        asked = Asked.of(GROUPED, night(rows), rows, GROUPED.names, history=NO_HISTORY, limits=LIMITS)
        return all_together(asked, Products.of(asked), asked.place(GROUPED.joint(GROUPED.names, with_topics=True)))

    rows = few_products(seed, odd=["p3"])
    found = surprise(rows)
    assert rows["product_id"][found.row].as_py() == "p3"
    rests = [surprise(without(rows, product)).p_whole for product in pc.unique(rows["product_id"]).to_pylist()]
    assert found.p_value == pytest.approx(max(rests), rel=1e-6)
    assert found.p_value >= found.p_whole


def test_the_order_of_rows_does_not_matter():
    rows = draw(700, 5, shift=0.1)
    shuffled = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    one, other = judge(rows)[0], judge(shuffled)[0]
    assert one.p_value == pytest.approx(other.p_value)
    assert one.effect == pytest.approx(other.effect)


def test_a_shift_is_found_and_its_size_does_not_grow_with_the_night():
    sizes = [judge(draw(n, 7, shift=0.2))[0].effect for n in (1_000, 4_000, 16_000)]
    assert judge(draw(1_000, 7, shift=0.2))[1].verdict == "warn"
    assert sizes == pytest.approx([N_TOPICS * 0.04] * 3, rel=0.35)


def test_harm_beside_a_shift_is_what_makes_a_retrain():
    assert judge(draw(2_000, 8, shift=0.3))[1].verdict == "warn"
    measured, verdict, _ = judge(draw(2_000, 8, shift=0.3, harm=0.1))
    assert verdict.verdict == "retrain"
    assert measured.estimate.fall > 0.05
    assert "a retrain is due" in verdict.sentence


def test_harm_without_another_kind_of_reviews_is_no_retrain():
    _, verdict, _ = judge(draw(2_000, 9, harm=0.1))
    assert verdict.verdict == "warn"


def test_another_mood_is_a_warning_and_is_said():
    measured, verdict, _ = judge(draw(2_000, 10, positive=0.8))
    assert verdict.verdict == "warn"
    assert measured.mood.share == pytest.approx(0.8, abs=0.05)
    assert measured.effect_beyond_mood < measured.effect / 2
    assert "positive, against 51 % before" in verdict.sentence


def test_estimated_accuracy_is_right_without_labels():
    for seed, harm in ((11, 0.0), (12, 0.05), (13, 0.1)):
        rows = draw(4_000, seed, harm=harm)
        truth = np.mean(rows["label"].to_numpy() == rows["true_label"].to_numpy())
        estimate = judge(rows, limits=replace(LIMITS, fall_factor=1.0))[0].estimate
        assert abs(estimate.accuracy - truth) < 4 * estimate.sigma


def labelled(nights, off, n=2_000):
    """Nights of whose reviews so many have labels, which are right more often than the model's confidence says."""
    return tuple(
        replace(item, labels=Labels(n=n, n_right=min(n, round((item.statistics.expected + off) * n)))) for item in nights
    )


def test_labels_of_quiet_nights_correct_the_estimate_and_nothing_else():
    rows, nights = draw(2_000, 33), past(30)
    before = judge(rows, day=FIRST, history=History(nights=nights))[0]
    worse = judge(rows, day=FIRST, history=History(nights=labelled(nights, -0.02)))[0]
    assert -0.02 < worse.estimate.accuracy - before.estimate.accuracy < -0.012
    assert worse.estimate.sigma < before.estimate.sigma
    assert worse.estimate.expected == before.estimate.expected == before.estimate.accuracy
    assert (worse.estimate.fall, worse.p_value, worse.evidence) == (before.estimate.fall, before.p_value, before.evidence)
    few = judge(rows, day=FIRST, history=History(nights=labelled(nights, -0.02, n=20)))[0]
    assert worse.estimate.accuracy < few.estimate.accuracy < before.estimate.accuracy
    assert worse.estimate.sigma < few.estimate.sigma < before.estimate.sigma
    perfect = judge(rows, day=FIRST, history=History(nights=labelled(nights, 0.5)))[0]
    assert 0.97 < perfect.estimate.accuracy <= 1


@pytest.mark.parametrize("what", ["drift", "too new", "as an earlier version kept them"])
def test_labels_of_other_nights_teach_nothing(what):
    rows, nights = draw(2_000, 33), labelled(past(30), -0.1)
    if what == "drift":
        nights = tuple(replace(item, verdict="warn") for item in nights)
    elif what == "too new":
        nights = nights[-LIMITS.season_lag + 1 :]
    else:
        nights = tuple(replace(item, statistics=replace(item.statistics, expected=None)) for item in nights)
    measured = judge(rows, day=FIRST, history=History(nights=nights))[0]
    assert measured.estimate.accuracy == measured.estimate.expected


@pytest.mark.parametrize(("kind", "name"), [("gibberish", GIBBERISH), ("copies", COPIES)])
def test_a_tenth_of_garbage_pages_a_person_and_never_retrains(kind, name):
    rows, garbage = draw(1_800, 14), draw(200, 15, harm=0.5)
    if kind == "gibberish":
        garbage = replaced(garbage, "surprise", np.full(200, 12.0))
    else:
        garbage = replaced(garbage, "topics", [np.arange(N_TOPICS, dtype=np.float32)] * 200)
    _, verdict, failed = judge(pa.concat_tables([rows, garbage]))
    assert verdict.verdict == "quarantine"
    assert failed[name]


def test_reviews_without_a_word_are_garbage():
    garbage = draw(200, 15, harm=0.5)
    for name in ("n_words", "surprise", "strange_share", "distinct_share"):
        garbage = replaced(garbage, name, np.zeros(200))
    measured, verdict, failed = judge(pa.concat_tables([draw(1_800, 14), garbage]))
    assert (verdict.verdict, failed[GIBBERISH]) == ("quarantine", True)
    assert measured.gibberish_share == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["gibberish", "copies"])
def test_garbage_with_wrong_labels_and_some_that_passes_for_plausible_never_retrains(kind, share):
    n = 2_000
    n_odd = round(share * n)
    rows, garbage = draw(n - n_odd, 14), draw(n_odd, 15, shift=1.0, harm=0.5)
    passes = np.arange(n_odd) % 12 == 0
    if kind == "gibberish":
        garbage = replaced(garbage, "surprise", np.where(passes, garbage["surprise"].to_numpy(), 12.0))
        garbage = replaced(garbage, "distinct_share", np.where(np.arange(n_odd) % 2, 1.0, 0.7))
    else:
        same = np.arange(N_TOPICS, dtype=np.float32)
        topics = [own if passed else same for own, passed in zip(garbage["topics"].to_pylist(), passes, strict=True)]
        garbage = replaced(garbage, "topics", topics)
    labels = Labels(n=400, n_right=round(400 * (0.9 - 0.4 * share)) - 20)
    _, verdict, failed = judge(pa.concat_tables([rows, garbage]), labels=labels)
    assert failed[LABELLED_FALL]
    assert verdict.verdict == "quarantine"
    # With nothing held against much garbage, what passes for plausible would set a retrain off.
    if share == 0.9:
        assert (
            judge(pa.concat_tables([rows, garbage]), labels=labels, limits=replace(LIMITS, most_garbage=2.0))[1].verdict
            == "retrain"
        )


def test_a_retrain_wants_plausible_reviews_that_are_unusual_by_themselves():
    """A night of garbage is unusual for it, and an effect or a fall that chance would not be asked about is none then."""
    measured, verdict, failed = judge(copied(200))
    assert (failed[SURPRISE], failed[PLAUSIBLE]) == (True, False)
    assert measured.p_plausible > 0.001 > measured.p_value
    drifted = pa.concat_tables([draw(1_945, 14, shift=0.3, harm=0.05), copied(55, of=1).slice(1)])
    measured, verdict, failed = judge(drifted)
    assert failed[COPIES]
    assert failed[PLAUSIBLE]
    assert verdict.verdict == "retrain"
    assert judge(draw(500, 3))[0].p_plausible == judge(draw(500, 3))[0].p_value
    assert judge(copied(970, of=30))[0].p_plausible == 1.0


def copied(n, *, of=1_800):
    garbage = replaced(draw(n, 15), "topics", [np.arange(N_TOPICS, dtype=np.float32)] * n)
    return pa.concat_tables([draw(of, 14), garbage])


@pytest.mark.parametrize(
    "limit",
    [{"copy_words": 1_000}, {"copy_times": 1_000}, {"copy_likeness": 1.01}, {"quarantine_rows": 1_000}, {"copies_searched": 4}],
    ids=str,
)
def test_the_policy_says_what_a_copy_is_and_how_many_are_too_many(limit):
    rows = copied(200)
    assert judge(rows)[2][COPIES]
    assert not judge(rows, limits=replace(LIMITS, **limit))[2][COPIES]


def test_the_policy_says_how_many_values_may_be_missing():
    rows = draw(1_000, 25)
    rows = replaced(rows, "n_words", [None if place % 3 else value for place, value in enumerate(rows["n_words"].to_pylist())])
    assert judge(rows)[0].left_out == {"n_words": "67% of its values tonight are missing"}
    lenient = judge(rows, limits=replace(LIMITS, most_missing=0.7))[0]
    assert (lenient.left_out, lenient.n_compared) == ({}, 334)


def test_the_policy_says_where_columns_are_cut():
    rows = REFERENCE.rows
    cut = Reference.of(rows, replace(LIMITS, column_cut=0.1))
    place = cut.names.index("surprise")
    assert [cut.lows[place], cut.highs[place]] == pytest.approx(np.quantile(rows["surprise"].to_numpy(), [0.1, 0.9]))


def test_the_policy_says_how_many_reviews_name_their_products():
    rows = draw(1_000, 25, n_products=20)
    named = replaced(
        rows, "product_id", [None if place % 3 else value for place, value in enumerate(rows["product_id"].to_pylist())]
    )
    strict, lenient = (
        judge(named, reference=GROUPED, limits=replace(ANY_COPIES, least_named=share))[0].statistics.spread
        for share in (0.5, 0.3)
    )
    assert strict > lenient  # unnamed reviews are taken to be as clustered as the reference's


def test_the_policy_says_what_moves_a_mood_and_what_doubt_is():
    rows = draw(2_000, 31, positive=0.8)
    assert judge(rows)[0].mood.has_moved
    assert not judge(rows, limits=replace(LIMITS, mood_sigmas=100.0))[0].mood.has_moved
    assert judge(rows, limits=replace(LIMITS, least_mood_gap=1.0))[0].mood is None
    rows = draw(2_000, 31, shift=0.3, harm=0.02)
    mild, hard = (judge(rows, limits=replace(LIMITS, fall_chance_sigmas=sigmas))[0].estimate.expected for sigmas in (2.0, 0.0))
    assert hard < mild
    labels = Labels(n=900, n_right=700)
    sure = replace(LIMITS, doubt_sigmas=100.0, fall_sigmas=100.0)
    assert judge(rows, labels=labels, limits=sure)[1].verdict == "quarantine"
    assert "what the reviews are about" in judge(rows)[1].sentence
    assert "what the reviews are about" not in judge(rows, limits=replace(LIMITS, told_effect=100.0))[1].sentence


def test_the_policy_says_how_far_back_evidence_is_gathered_and_what_seasons_may_be():
    nights = past(40, shift=0.05, n=1_500)
    rows = draw(1_500, 16, shift=0.05)
    found = [
        judge(rows, day=FIRST, history=History(nights=nights), limits=replace(LIMITS, baseline_nights=1_000, **limit))[0].evidence
        for limit in ({}, {"evidence_days": 3}, {"evidence_nights": (1,), "evidence_ramps": (1,)}, {"evidence_sizes": (10.0,)})
    ]
    assert min(found[0] / other for other in found[1:]) > 2
    taught = replace(LIMITS, season_nights=5)
    values = [
        judge(rows.slice(0, 300), day=FIRST, history=History(nights=nights), limits=replace(taught, **limit))[0].columns[0].z
        for limit in ({}, {"season_sizes": (0.1,)}, {"season_sizes": (0.1,), "season_volume": 0.001})
    ]
    assert len(set(values)) == len(values)


def test_a_lasting_shift_too_small_for_one_night_is_found_within_ten():
    shifted = past(10, shift=0.05, n=1_500)
    _, verdict, failed = judge(draw(1_500, 16, shift=0.05), day=FIRST, history=History(nights=shifted))
    assert not failed[SURPRISE]
    assert failed[EVIDENCE]
    assert verdict.verdict == "warn"
    assert "moved together" in verdict.sentence


def test_an_odd_night_is_warned_of_once():
    nights = past(20)
    odd = draw(1_000, 3, shift=0.4)
    measured, verdict, _ = judge(odd, day=FIRST - timedelta(days=1), history=History(nights=nights[:-1]))
    assert verdict.verdict == "warn"
    unsaid = replace(nights[-1], verdict="quiet", p_value=measured.p_value, statistics=measured.statistics)
    said = replace(unsaid, verdict="warn")
    tonight = draw(1_000, 17)
    words = [judge(tonight, day=FIRST, history=History(nights=(*nights[:-1], last)))[1] for last in (unsaid, said)]
    assert [word.verdict for word in words] == ["warn", "quiet"]
    assert f"only nights since {FIRST - timedelta(days=1)}" in words[1].sentence


def test_a_small_shift_that_goes_on_is_warned_of_again():
    shifted = past(10, shift=0.05, n=1_500)
    told = (*shifted[:-6], replace(shifted[-6], verdict="warn"), *shifted[-5:])
    _, verdict, failed = judge(draw(1_500, 16, shift=0.05), day=FIRST, history=History(nights=told))
    assert failed[EVIDENCE]
    assert verdict.verdict == "warn"


def test_evidence_stays_small_on_quiet_nights():
    nights = past(21)
    assert judge(draw(1_000, 17), day=FIRST, history=History(nights=nights))[0].evidence < 100


def test_mode_evidence_waits_for_a_second_night_for_labels_and_for_the_last_retrain():
    limits = replace(LIMITS, mode="evidence")
    rows = draw(2_000, 18, shift=0.3, harm=0.1)
    before = past(1, shift=0.3)
    enough = History(nights=before, n_new_labels=500)
    told = [
        judge(rows, day=FIRST, limits=limits, history=history)[1]
        for history in (
            History(),
            History(nights=before),
            replace(enough, retrained_on=FIRST - timedelta(days=2)),
            enough,
            replace(enough, retrained_on=FIRST - timedelta(days=9)),
        )
    ]
    assert [verdict.verdict for verdict in told] == ["warn", "warn", "warn", "retrain", "retrain"]
    assert "another night like it" in told[0].sentence
    assert "300 new labels (0 have arrived)" in told[1].sentence
    assert "7 nights after the last one" in told[2].sentence


def test_labels_of_several_nights_count_together():
    labels = Labels(n=150, n_right=115)
    alone, together = (
        judge(draw(1_000, 19), day=FIRST, labels=labels, history=History(nights=nights))[0]
        for nights in ((), tuple(replace(item, labels=labels) for item in past(2)))
    )
    assert together.labels_p < alone.labels_p
    _, verdict, failed = judge(draw(1_000, 19), labels=Labels(n=800, n_right=600))
    assert failed[LABELLED_FALL]
    assert verdict.verdict == "warn"
    assert verdict.labelled_accuracy == 0.75


@pytest.mark.parametrize(("lost", "is_worse"), [(0.8, False), (1.3, True)])
def test_labels_have_to_show_more_than_a_fall_that_is_not_worth_a_training(lost, is_worse):
    """Of so many labels that chance is a hundredth of a point; the reference has its own, which counts as well."""
    rows = draw(1_000, 19)
    known = Rightness(REFERENCE)
    right = known.reference_accuracy - lost * LIMITS.min_fall - is_worse * 4 * known.reference_sigma
    _, _, failed = judge(rows, labels=Labels(n=10**7, n_right=int(right * 10**7)))
    assert failed[LABELLED_FALL] == is_worse


@pytest.mark.parametrize("accuracy", [0.7, 0.9, 0.97])
@pytest.mark.parametrize("n", [30, 100, 1_000])
def test_right_labels_are_too_few_as_seldom_as_the_limit_says(n, accuracy):
    n_right = np.arange(n + 1)
    p_values = np.array([compare_labels(Labels(n=n, n_right=int(few)), accuracy, 0.0) for few in n_right])
    share = stats.binom.pmf(n_right, n, accuracy)[p_values <= LIMITS.labelled_p].sum()
    assert 0.05 * LIMITS.labelled_p < share <= 1.02 * LIMITS.labelled_p
    unsure = [compare_labels(Labels(n=n, n_right=int(few)), accuracy, 0.02) for few in n_right[: round(0.6 * n)]]
    assert (unsure >= p_values[: len(unsure)]).all()


def test_reviews_of_which_the_model_is_wrongly_sure_page_a_person():
    """Labels say that it fails, and it has no doubt: nothing to learn from blindly."""
    rows = draw(2_000, 31, shift=0.3, harm=-0.02)
    labels = Labels(n=900, n_right=700)
    _, verdict, failed = judge(rows, labels=labels)
    assert failed[LABELLED_FALL]
    assert verdict.verdict == "quarantine"
    assert "as sure as ever" in verdict.sentence
    assert judge(draw(2_000, 31, shift=0.3, harm=0.02), labels=labels)[1].verdict == "retrain"


def test_quiet_nights_teach_a_weekday():
    """Every Monday the topics lie elsewhere; after two months that is what a Monday looks like."""
    nights = []
    for back in range(70, 0, -1):
        day = FIRST - timedelta(days=back)
        rows = draw(1_000, 500 + back, shift=0.07 if day.weekday() == FIRST.weekday() else 0.0)
        nights.append(
            PastNight(
                window_date=day, n=1_000, verdict="quiet", p_value=0.5, effect=0.0, statistics=judge(rows)[0].statistics
            )
        )  # fmt: skip
    monday = draw(1_000, 20, shift=0.07)
    untaught, taught = (judge(monday, day=FIRST, history=History(nights=known))[0] for known in ((), tuple(nights)))
    assert taught.n_quiet_nights == sum(back >= 14 for back in range(70, 0, -1))
    assert taught.p_value > 10 * untaught.p_value
    tuesday = judge(draw(1_000, 21, shift=0.2), day=FIRST + timedelta(days=1), history=History(nights=tuple(nights)))[1]
    assert tuesday.verdict == "warn"


def test_nights_that_were_not_quiet_teach_nothing():
    assert judge(draw(500, 22), day=FIRST, history=History(nights=past(60, verdict="warn")))[0].n_quiet_nights == 0


def test_a_model_without_a_reference_says_how_to_make_one():
    _, verdict, failed = judge(draw(500, 23), reference=None)
    assert (verdict.verdict, failed) == ("too_few", {})
    assert "retrain_model" in verdict.sentence


@pytest.mark.parametrize("n", [0, 1, 49])
def test_few_reviews_are_too_few(n):
    measured, verdict, _ = judge(draw(max(n, 1), 24).slice(0, n))
    assert verdict.verdict == "too_few"
    assert verdict.n == n
    assert measured.statistics is None


@pytest.mark.parametrize("name", ["surprise", "n_words", "upper_share"])
def test_a_column_without_values_is_named_and_left_out(name):
    rows = replaced(draw(1_000, 25), name, [None] * 1_000)
    measured, verdict, _ = judge(rows)
    assert measured.left_out == {name: "100% of its values tonight are missing"}
    assert f"Left out: {name}" in verdict.sentence
    assert {column.name for column in measured.columns} == set(REFERENCE.names) - {name}


def test_a_column_that_is_constant_in_the_reference_is_left_out():
    reference = Reference.of(replaced(REFERENCE.rows, "upper_share", np.zeros(len(REFERENCE.rows))), LIMITS)
    measured, verdict, _ = judge(draw(1_000, 26), reference=reference)
    assert "constant in the reference" in measured.left_out["upper_share"]
    assert verdict.verdict == "quiet"


def test_a_night_that_no_lens_has_seen_is_judged_by_what_there_is():
    rows = draw(1_000, 27)
    for name in schema.LENS_COLUMNS:
        rows = replaced(rows, name, pa.nulls(len(rows), rows.schema.field(name).type))
    measured, verdict, _ = judge(rows)
    assert measured.effect == 0
    assert verdict.verdict == "quiet"
    assert set(schema.LENS_COLUMNS) - {"topics"} <= set(measured.left_out)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_missing_value_ever_reaches_a_check(data):
    rows = draw(300, 28)
    for name in data.draw(st.lists(st.sampled_from(["surprise", "p_positive", "n_words", "strange_share"]), unique=True)):
        values = np.array(rows[name].to_numpy(), np.float64)
        values[data.draw(st.lists(st.integers(0, 299), max_size=300))] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
        field = pa.field(name, pa.float64())
        rows = rows.set_column(rows.column_names.index(name), field, pa.array(values))
    measured, verdict, _ = judge(rows)
    assert all(np.isfinite((check.value, check.limit)).all() for check in checks(measured, LIMITS))
    assert verdict.verdict in ("quiet", "too_few", "warn")


def test_statistics_survive_json():
    statistics = judge(draw(300, 29))[0].statistics
    again = Statistics.from_json(statistics.to_json())
    assert again.columns == pytest.approx(dict(statistics.columns), abs=1e-5)
    assert again.topics == pytest.approx(statistics.topics, abs=1e-5)
    assert again.expected == pytest.approx(statistics.expected, abs=1e-5)
    kept_before = {name: value for name, value in statistics.to_json().items() if name != "expected"}
    assert Statistics.from_json(kept_before) == replace(again, expected=None)


def test_splitting_keeps_products_together():
    grouped = Reference.of(draw(2_000, 30, n_products=200), LIMITS)
    part, others = grouped.split(0.5, LIMITS, seed=1)
    inside = set(part.rows["product_id"].to_pylist())
    assert len(part) + len(others) == 2_000
    assert not inside & set(others["product_id"].to_pylist())
