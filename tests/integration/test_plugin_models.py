"""The pages about models: who is champion and why, what the gates said, what a search tried."""

import html
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.store.engine import connect
from sentiment_core.store.overview import ModelEvent, list_events, list_gates, list_trials

REPOSITORY = Path(__file__).resolve().parents[2]
FIGURES = {"n": 2412, "accuracy": 0.9123, "macro_f1": 0.9081, "ece": 0.0123}
GATES = [
    {"name": "better_on_fresh", "figure": 0.0023, "limit": 0.05, "outcome": "passed", "n": 312, "sentence": "more often right"},
    {"name": "floor_neutral", "figure": None, "limit": 0.3, "outcome": "skipped", "n": 4, "sentence": "too few"},
    {"name": "negation", "figure": 0.97, "limit": 0.95, "outcome": "failed", "n": 48, "sentence": "fails 47 of 48"},
]
HOSTILE = "<img src=x onerror=alert(1)>\"'</style><script>alert(2)</script>"


def trial(name, *losses, state="complete", **params):
    mean = sum(losses) / len(losses)
    metrics = {"folds": [{"log_loss": loss} for loss in losses], "log_loss": mean}
    if state == "complete":
        metrics |= {"accuracy": 1 - mean, "macro_f1": 1 - mean}
    return {"name": name, "family": "f", "params": params, "metrics": metrics, "mean": mean, "seconds": 2.5, "state": state}


TRIALS = [
    trial("0-logistic", 0.3, 0.32, C=1.0, stem=True, weighting="tfidf"),
    trial("1-svm", 0.21, state="pruned", C=9.5, stem=False, weighting="tfidf"),
    trial("2-nb", 0.25, 0.27, C=30.0, stem=False, weighting="tfidf"),
]


@pytest.fixture(scope="module")
def models():
    """The module of the pages."""
    sys.path.insert(0, str(REPOSITORY / "plugins"))
    try:
        from sentiment_pages import models
    finally:
        sys.path.pop(0)
    return models


def events(*happened):
    """Events from (version, what) or (version, what, metrics), a day apart."""
    start = datetime(2026, 11, 2, 2, 30, tzinfo=UTC)
    return [
        ModelEvent(
            event_id=number,
            at=start + timedelta(days=number),
            model_version=version,
            event=what,
            reason=f"reason {number}",
            **(rest[0] if rest else {}),
        )
        for number, (version, what, *rest) in enumerate(happened, 1)
    ]


def states(models, *happened):
    return {version.number: version.state for version in models.versions(events(*happened))}


def words(page):
    body = re.sub(r"<(svg|head)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body))).strip()


# What the events mean


def test_states_follow_from_what_happened(models):
    first = [(1, "registered"), (1, "promoted")]
    assert states(models, (1, "registered")) == {1: "challenger"}
    assert states(models, *first) == {1: "champion"}
    assert states(models, *first, (2, "registered"), (2, "held")) == {1: "champion", 2: "challenger"}
    assert states(models, *first, (2, "registered"), (2, "held"), (3, "registered")) == {
        1: "champion",
        2: "held",
        3: "challenger",
    }
    assert states(models, *first, (2, "registered"), (2, "promoted")) == {1: "retired", 2: "champion"}
    assert states(models, *first, (2, "registered"), (2, "promoted"), (1, "rolled_back")) == {1: "champion", 2: "rolled_back"}


def test_a_champion_for_which_a_retrain_was_held_stays_champion(models):
    assert states(models, (1, "registered"), (1, "promoted"), (1, "held")) == {1: "champion"}


@given(
    happened=st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from(["registered", "promoted", "held", "rolled_back"])), max_size=25
    )
)
def test_there_is_one_champion_at_most_and_it_is_the_last_that_was_made_one(models, happened):
    found = states(models, *happened)
    assert set(found) == {version for version, _ in happened}
    made = [version for version, what in happened if what in ("promoted", "rolled_back")]
    assert [version for version, state in found.items() if state == "champion"] == made[-1:]
    assert list(found.values()).count("challenger") <= 1
    assert list(found) == sorted(found, reverse=True)


def test_a_version_that_was_rolled_back_says_why(models):
    found = models.versions(events((1, "registered"), (1, "promoted"), (2, "registered"), (2, "promoted"), (1, "rolled_back")))
    assert {version.number: version.story for version in found} == {1: "Champion again: reason 5", 2: "Reason 5"}
    assert models.headline(found) == "Version 1 is champion."
    assert models.since(found) == "Champion again on Saturday 7 November 2026: reason 5."


def test_failed_gates_come_first_and_figures_read_well(models):
    assert [(gate.name, gate.outcome, gate.figure, gate.limit, gate.n) for gate in models.gate_rows(GATES)] == [
        ("negation", "failed", "0.97", "0.95", "48"),
        ("better on fresh", "passed", "0.0023", "0.05", "312"),
        ("floor neutral", "skipped", models.NOTHING, "0.3", "4"),
    ]


def test_figures_are_those_of_the_training_and_parts_those_of_the_latest_event_that_has_them(models):
    others = {**FIGURES, "accuracy": 0.5}
    (version,) = models.versions(
        events(
            (1, "registered", {"figures": FIGURES, "has_trials": True}),
            (1, "held", {"figures": others, "has_gates": True}),
            (1, "held"),
        )
    )
    assert version.figures == FIGURES
    assert (version.search.event_id, version.decision.event_id) == (1, 2)
    (version,) = models.versions(events((1, "held", {"figures": others})))
    assert (version.figures, version.search, version.decision) == (others, None, None)


def test_recipes_come_with_the_best_first_and_say_what_differs(models):
    found = models.recipe_rows(TRIALS)
    assert [(row.place, row.name, row.is_whole, row.mean, row.parameters) for row in found] == [
        (1, "2-nb", True, "0.2600", "C 30"),
        (2, "0-logistic", True, "0.3100", "C 1, stem"),
        (3, "1-svm", False, "0.2100", "C 9.5"),
    ]
    ends = [dot for row in found for dot in row.strip.dots]
    assert (min(ends), max(ends)) == (4.0, models.STRIP_WIDTH - 4.0)


# The pages


def story(pages):
    """A champion, and a challenger that was held."""
    pages.add_event(1, "registered", "first model", test=FIGURES)
    pages.add_event(1, "promoted", "better than saying positive")
    pages.add_event(2, "registered", "drift on 2026-11-07", test=FIGURES, trials=TRIALS)
    pages.add_event(2, "held", "fails 47 of 48", gates=GATES)


def test_the_page_says_who_is_champion_and_why_the_challenger_is_not(pages):
    story(pages)
    with pages.visitor("viewer") as visitor:
        page = words(visitor.get("/sentiment/models").text)
    assert "Version 1 is champion." in page
    assert "better than saying positive." in page
    assert re.search(r"Version 2 Challenger [\d-]+ 91\.2% 0\.908 0\.012 Held: fails 47 of 48", page)
    assert "Failed negation fails 47 of 48 0.97 0.95 48 Passed better on fresh more often right 0.0023 0.05 312" in page
    assert "Recipes tried for version 2" in page
    assert re.search(r"1 2-nb Challenger 0\.2600 .* 2 0-logistic 0\.3100 .* 3 1-svm given up early 0\.2100", page)


def test_the_list_of_events_leaves_out_what_no_list_shows(pages):
    """Gates and trials of years would be megabytes a view."""
    story(pages)
    engine = connect(pages.database_url, role=None)
    found = list_events(engine, limit=100)
    assert [(event.has_gates, event.has_trials) for event in found] == [
        (False, False),
        (False, False),
        (False, True),
        (True, False),
    ]
    assert found[0].figures == FIGURES
    assert not {"metrics", "gates", "trials"} & vars(found[-1]).keys()
    assert list_gates(engine, found[-1].event_id) == GATES
    assert list_trials(engine, found[2].event_id) == TRIALS
    assert list_gates(engine, found[0].event_id) == list_trials(engine, 0) == []


def test_a_version_has_a_page_with_all_that_happened_to_it(pages):
    story(pages)
    with pages.visitor("viewer") as visitor:
        assert 'href="models/1"' in visitor.get("/sentiment/models").text
        page = words(visitor.get("/sentiment/models/1").text)
        assert visitor.get("/sentiment/models/3").status_code == 404
    assert "Version 1 Champion" in page
    assert re.search(r"Registered first model .* Promoted better than saying positive", page)
    assert "run manual__1, code 0.1.0+abc" in page
    assert "Gates" not in page


def test_nights_and_models_lead_to_each_other(pages):
    story(pages)
    with pages.visitor("viewer") as visitor:
        for path in ("/sentiment/", "/sentiment/models", "/sentiment/models/2"):
            links = re.findall(r'<nav class="sections".*?</nav>', visitor.get(path).text, re.DOTALL)[0]
            for address in re.findall(r'href="([^"]+)"', links):
                found = visitor.get(str(visitor.base_url.join(path).join(address)))
                assert found.status_code == 200, (path, address)


def test_without_a_version_the_page_says_what_to_do(pages):
    with pages.visitor("viewer") as visitor:
        answer = visitor.get("/sentiment/models")
    assert answer.status_code == 200
    assert "No model has been trained yet." in answer.text


def test_a_reason_from_outside_is_shown_as_text(pages):
    pages.add_event(1, "registered", HOSTILE, trials=[trial(HOSTILE, 0.1), trial("b", 0.2, C=HOSTILE)])
    pages.add_event(1, "held", HOSTILE, gates=[{**GATES[0], "name": HOSTILE, "sentence": HOSTILE}])
    with pages.visitor("viewer") as visitor:
        for path in ("/sentiment/models", "/sentiment/models/1"):
            text = visitor.get(path).text
            assert "<img" not in text
            assert "<script" not in text
            assert " style=" not in text
            assert text.count("</style>") == 1
            assert HOSTILE in html.unescape(text)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["models", "models/2"])
def test_the_pages_fit_every_screen_without_a_complaint(browser, pages, path, width, scheme):
    story(pages)
    browser("Network.setCookie", name="_token", value=pages.visitor("viewer").cookies["_token"], url=pages.base_url)
    browser("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    browser("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(f"{pages.base_url}/sentiment/{path}")
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.querySelectorAll('.strip circle').length") == 5
    assert browser.complaints() == []
