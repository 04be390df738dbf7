"""Backfills, by REST and by Airflow's own form: exactly the nights asked for, both ends included, and nothing set off."""

from urllib.parse import quote

import pytest

pytestmark = pytest.mark.stack
DIALOG = "document.querySelector('[role=dialog][data-scope=dialog]')"
DATES = "document.querySelectorAll('[data-testid=datetime-input]')"


def test_a_backfill_by_rest_gives_what_the_nights_gave_and_sets_nothing_off(machine, nights, day):
    """The first two nights have run, by version 2 and by version 1; the third is another domain's and has not.

    Beside it a run that has set off a retrain is cleared: it judges its night again, and sets nothing off either.
    """
    asked = [day(1), day(2), day(3)]
    expected = [nights["key"].n, nights["date"].n, machine.deliver(day(3), 600, domain="electronics")]
    for neighbour in (day(0), day(4)):
        machine.deliver(neighbour)
    before, retrains = machine.run_ids("score_reviews"), machine.run_ids("retrain_model")
    machine.backfill(day(1), day(3), conf={"force": True})
    drifted = nights["drifted"]
    machine.api.post(f"/api/v2/dags/score_reviews/dagRuns/{quote(drifted.run_id)}/clear", {"dry_run": False})
    assert machine.backfilled(after=before) == [(str(item), "success") for item in asked]
    assert machine.counts(*asked) == [(n, n, 1) for n in expected]
    assert machine.counts(day(0), day(4)) == [(0, 0, 0)] * 2
    versions = [
        machine.rows("select distinct model_version from sentiment.scored_reviews where review_date = :day", day=item)
        for item in asked
    ]
    assert versions == [[(2,)], [(1,)], [(2,)]]
    assert machine.verdicts(day(3)) == ["retrain"]
    assert machine.end("score_reviews", drifted.run_id) == "success"
    assert machine.verdicts(drifted.date) == ["retrain"] * 2
    assert machine.run_ids("retrain_model") == retrains


@pytest.mark.browser
def test_the_form_runs_the_nights_typed_and_without_a_date_the_night_before(machine, nights, day, browser):
    asked = [day(20), day(21), day(22)]
    expected = [machine.deliver(item) for item in asked]
    for neighbour in (day(19), day(23)):
        machine.deliver(neighbour)
    night_before = machine.deliver_night_before()
    before = machine.run_ids("score_reviews")
    browser("Emulation.setTimezoneOverride", timezoneId="America/Los_Angeles")  # the form shows its dates there
    browser.open(f"{machine.api.base_url}/dags/score_reviews")
    browser.log_in("admin", machine.stack.airflow.secrets.passwords["admin"])
    open_form(browser, "single")
    press(browser, "Trigger")
    [single] = machine.until(lambda: machine.run_ids("score_reviews", run_type="manual") - before, "the run of the form")
    browser.open(f"{machine.api.base_url}/dags/score_reviews")
    machine.until(lambda: all(item["completed_at"] for item in backfills(machine)), "the end of the backfill before")
    open_form(browser, "backfill")
    type_date(browser, 0, asked[0])
    type_date(browser, 1, asked[-1])
    browser.wait(f"{DIALOG}.innerText.includes('3 runs will be triggered')")
    type_number(browser, "max_active_runs", 3)
    press(browser, "Run Backfill")
    machine.until(lambda: machine.run_ids("score_reviews") - before - {single}, "runs of the form")
    browser.open("data:text/html,the page draws its progress, and would take a core from the nights")
    assert machine.backfilled(after=before) == [(str(item), "success") for item in asked]
    assert machine.counts(*asked) == [(n, n, 1) for n in expected]
    assert machine.counts(day(19), day(23)) == [(0, 0, 0)] * 2
    assert machine.end("score_reviews", single) == "success"
    assert single in machine.runs_of(night_before)
    n = machine.delivered[night_before]
    assert machine.counts(night_before) == [(n, n, 1)]


def backfills(machine):
    return machine.api.get("/api/v2/backfills", dag_id="score_reviews", limit=100)["backfills"]


def open_form(browser, kind):
    browser.click("[data-testid=trigger-dag-button]")
    browser.click(f"[role=dialog] input[value={kind}]")


def press(browser, name):
    button = f"[...{DIALOG}.querySelectorAll('button')].find(button => button.innerText.trim() === '{name}' && !button.disabled)"
    browser.wait(f"{button} !== undefined")
    browser.ask(f"{button}.click()")


def type_number(browser, name, value):
    browser.wait(f"document.querySelector('[role=dialog] input[name={name}]')")
    browser.ask(f"document.querySelector('[role=dialog] input[name={name}]').select()")
    browser("Input.insertText", text=str(value))


def type_date(browser, number, value):
    """Open one of the two date fields, type a date as a person would, and close it."""
    field = f"{DATES}[{number}]"
    browser.wait(f"{DATES}.length === 2")
    browser.ask(f"{field}.click()")
    text = (
        f"document.getElementById({field}.id.replace(':trigger', ':content')).querySelector('input[placeholder=\"YYYY/MM/DD\"]')"
    )
    browser.wait(f"{text}.offsetParent !== null")
    browser.ask(f"{text}.focus()")
    browser("Input.insertText", text=f"{value:%Y/%m/%d}")
    browser.wait(f"{field}.textContent.startsWith('{value:%b %d, %Y}')")
    browser.ask(f"{field}.click()")
