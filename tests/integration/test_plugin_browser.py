"""The pages as a person sees them: a headless Chromium, driven over its DevTools protocol."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytestmark = pytest.mark.browser
NIGHT = date(2026, 11, 6)
FRAME = "document.querySelector('iframe[title=Sentiment]').contentDocument"
# Tries what a hostile report would: the session, Airflow's API, the page around it.
NOSY_REPORT = b"""<!doctype html><title>loading</title><body><script>
const tried = {};
const note = (name, attempt) => { try { attempt(); tried[name] = 'worked'; } catch (error) { tried[name] = 'refused'; } };
note('cookie', () => document.cookie);
note('storage', () => localStorage.length);
if (parent !== window) note('parent', () => parent.document.body);
fetch('/api/v2/version').then(() => { tried.api = 'worked'; }, () => { tried.api = 'refused'; })
  .finally(() => { document.title = JSON.stringify(tried); });
</script>"""


@pytest.fixture(scope="module")
def ninety_nights(airflow_pages):
    """Nights with checks of every verdict."""
    pages = airflow_pages
    pages.clear()
    verdicts = {0: "retrain", 3: "warn", 5: "too_few", 8: "quarantine"}
    for back in range(90):
        day = NIGHT - timedelta(days=back)
        pages.add_reviews(day, n_positive=70 + back % 7, n_negative=30)
        pages.add_check(1000 - back, window_date=day, verdict=verdicts.get(back, "quiet"))
    return pages


@pytest.fixture
def seen(ninety_nights):
    """The nights, the latest with a report that means ill, the one before with a dull one."""
    for check_id, body in {1000: NOSY_REPORT, 999: b"<title>quiet</title>"}.items():
        key = f"reports/date={NIGHT - timedelta(days=1000 - check_id)}/check-{check_id}.html"
        ninety_nights.s3.put_object(Bucket="pages", Key=key, Body=body)
    return ninety_nights


@pytest.fixture
def visitor(browser, seen):
    """The browser, logged in as a viewer."""
    browser("Network.setCookie", name="_token", value=seen.visitor("viewer").cookies["_token"], url=seen.base_url)
    return browser


def test_a_person_logs_in_and_lands_on_the_page_asked_for(browser, seen):
    browser.open(f"{seen.base_url}/sentiment/?before=2026-10-01")
    browser.log_in("viewer", "only-for-tests-viewer")
    browser.wait("location.pathname === '/sentiment/' && location.search === '?before=2026-10-01'")
    assert browser.wait("document.querySelector('h1').textContent") == "Nights up to Wednesday 30 September 2026"


def test_the_nav_entry_leads_to_nights_and_on_to_a_report_and_back(visitor, seen):
    visitor.open(f"{seen.base_url}/")
    visitor.click("a[href$='plugin/sentiment']")
    assert "drifted far enough" in visitor.wait(f"{FRAME}.querySelector('h1').textContent")
    follow(visitor, ".go a", until=f"{FRAME}.querySelector('iframe')")
    assert visitor.wait(f"{FRAME}.querySelector('h1').textContent") == "Friday 6 November 2026"
    visitor.wait("location.pathname === '/plugin/sentiment/sentiment/checks/1000'")
    follow(visitor, "nav a", until=f"{FRAME}.querySelector('table.nights')")


def follow(visitor, link, *, until):
    """Click a link in Airflow's frame, once in each document: Airflow may load the frame's page a second time under the first click."""
    visitor.wait(
        f"{until} || (link => {{ if (link && !link.dataset.clicked) {{ link.dataset.clicked = 'yes'; link.click() }} }})"
        f"({FRAME}.readyState === 'complete' && {FRAME}.querySelector({link!r}))"
    )


def test_a_link_to_a_page_inside_airflow_opens_that_page(visitor, seen):
    visitor.open(f"{seen.base_url}/plugin/sentiment/sentiment/checks/997")
    assert visitor.wait(f"{FRAME}.querySelector('h1').textContent") == "Tuesday 3 November 2026"


def test_a_report_runs_its_scripts_and_reaches_nothing_of_airflow(visitor, seen):
    visitor.open(f"{seen.base_url}/sentiment/reports/1000")
    tried = json.loads(visitor.wait("document.title !== 'loading' && document.title"))
    assert tried == {"cookie": "refused", "storage": "refused", "api": "refused"}


def test_a_report_in_a_page_does_not_reach_that_page(visitor, seen):
    visitor.open(f"{seen.base_url}/sentiment/checks/1000")
    visitor.wait("document.querySelector('iframe')")
    assert visitor.ask("document.querySelector('iframe').contentDocument") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=str)
@pytest.mark.parametrize("path", ["", "?before=2026-10-01", "?before=2020-01-01", "checks/999", "models", "nothing"])
def test_pages_fit_every_screen_without_a_complaint(visitor, seen, path, size, scheme):
    width, height = size
    visitor("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
    visitor("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    visitor.open(f"{seen.base_url}/sentiment/{path}")
    assert visitor.ask("document.documentElement.scrollWidth") <= width
    brightness = visitor.ask(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, part) => sum + +part, 0) / 3"
    )
    assert (brightness > 200) == (scheme == "light")
    assert [text for text in visitor.complaints() if "404" not in str(text)] == []


def test_every_verdict_has_a_word_and_a_shape_of_its_own(visitor, seen):
    visitor.open(f"{seen.base_url}/sentiment/")
    badges = visitor.ask(
        "[...document.querySelectorAll('.badge')].map(item => [item.textContent.trim(), item.querySelector('path').getAttribute('d')])"
    )
    shapes = dict(badges)
    assert set(shapes) == {"Quiet", "Warning", "Retrain", "Quarantine", "Too few"}
    # a filled circle and a ring: the one pair that differs by its filling
    assert len(set(shapes.values())) == len(shapes) - 1


def test_evidentlys_own_report_is_drawn_in_its_sandbox(visitor, seen):
    from sentiment_core.drift.history import History
    from sentiment_core.drift.history import Night as DriftNight
    from sentiment_core.drift.reference import Reference
    from sentiment_core.policy import read_policy
    from sentiment_core.reports import judge

    limits = read_policy(Path(__file__).resolve().parents[2] / "include" / "policy.toml").drift
    judged = judge(
        Reference.of(reviews(0.8, seed=1), limits),
        DriftNight(rows=reviews(0.5, seed=2), n=1500, window_date=NIGHT),
        history=History(),
        limits=limits,
        title="A night",
        model_version=1,
    )
    seen.s3.put_object(Bucket="pages", Key=f"reports/date={NIGHT}/check-1000.html", Body=judged.page)
    visitor.open(f"{seen.base_url}/sentiment/reports/1000")
    assert visitor.wait("document.querySelectorAll('.js-plotly-plot').length")
    assert judged.verdict.sentence in visitor.ask("document.body.innerText")
    assert visitor.ask("document.querySelectorAll('.verdict rect.bar').length") > 0


def reviews(positive_share, *, seed):
    """Drift columns of 1,500 made-up reviews."""
    random = np.random.default_rng(seed)
    n = 1500
    label = np.where(random.random(n) < positive_share, "positive", "negative")
    shares = {
        name: pa.array(random.random(n) * 0.1, pa.float32()) for name in ("unknown_share", "upper_share", "non_letter_share")
    }
    confidence = 0.9 + random.normal(0, 0.03, n)
    return pa.table(
        {
            "p_positive": np.where(label == "positive", 0.9, 0.1) + random.normal(0, 0.03, n),
            "confidence": confidence,
            "raw_confidence": confidence,
            "n_chars": pa.array(random.poisson(400, n), pa.int32()),
            "n_words": pa.array(random.poisson(80, n), pa.int32()),
            **shares,
            "label": label,
            "true_label": label,
            "product_id": [f"p{number % 50}" for number in range(n)],
        }
    )
