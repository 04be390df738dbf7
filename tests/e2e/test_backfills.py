"""Backfills, by REST and by Airflow's own form: exactly the nights asked for, both ends included, and nothing set off."""

import pytest

pytestmark = pytest.mark.stack
DIALOG = "document.querySelector('[role=dialog][data-scope=dialog]')"
DATES = "document.querySelectorAll('[data-testid=datetime-input]')"


@pytest.fixture
def backfilled(machine):
    """Ends a backfill and gives its runs: partition key and state of each."""

    def end(backfill_id, before):
        machine.api.wait_backfill(backfill_id, timeout_s=300)
        runs = [run for run in machine.api.dag_runs("score_reviews", run_type="backfill") if run["dag_run_id"] not in before]
        return sorted((run["partition_key"], run["state"]) for run in runs)

    return end


def test_a_backfill_by_rest_gives_what_the_nights_gave_and_sets_nothing_off(machine, nights, day, backfilled):
    """The first two nights have run, by version 2 and by version 1; the third is another domain's and has not."""
    asked = [day(1), day(2), day(3)]
    expected = [nights["key"].n, nights["date"].n, machine.deliver(day(3), 600, domain="electronics")]
    for neighbour in (day(0), day(4)):
        machine.deliver(neighbour)
    before, retrains = machine.run_ids("score_reviews"), machine.run_ids("retrain_model")
    started = machine.api.backfill("score_reviews", day(1), day(3), max_active_runs=3, conf={"force": True})
    assert backfilled(started["id"], before) == [(str(item), "success") for item in asked]
    assert machine.counts(*asked) == [(n, n, 1) for n in expected]
    assert machine.counts(day(0), day(4)) == [(0, 0, 0)] * 2
    versions = [
        machine.rows("select distinct model_version from sentiment.scored_reviews where review_date = :day", day=item)
        for item in asked
    ]
    assert versions == [[(2,)], [(1,)], [(2,)]]
    assert machine.verdicts(day(3)) == ["retrain"]
    assert machine.run_ids("retrain_model") - retrains <= {
        run_id for run_id in machine.run_ids("retrain_model") if run_id.startswith(f"drift__{nights['drifted'].date}")
    }


@pytest.mark.browser
def test_a_backfill_filled_in_on_the_form_runs_the_nights_typed(machine, decisions, day, browser, backfilled):
    assert decisions["Promote"].state == "success"
    asked = [day(20), day(21), day(22)]
    expected = [machine.deliver(item) for item in asked]
    for neighbour in (day(19), day(23)):
        machine.deliver(neighbour)
    before, known = machine.run_ids("score_reviews"), {item["id"] for item in backfills(machine)}
    browser.open(f"{machine.api.base_url}/dags/score_reviews")
    browser.log_in("admin", machine.stack.airflow.secrets.passwords["admin"])
    browser.click("[data-testid=trigger-dag-button]")
    browser.click("[role=dialog] input[value=backfill]")
    type_date(browser, 0, asked[0])
    type_date(browser, 1, asked[-1])
    browser.wait(f"{DIALOG}.innerText.includes('3 runs will be triggered')")
    browser.ask(f"[...{DIALOG}.querySelectorAll('button')].find(button => button.innerText === 'Run Backfill').click()")
    [started] = machine.until(lambda: {item["id"] for item in backfills(machine)} - known, "the backfill of the form")
    assert backfilled(started, before) == [(str(item), "success") for item in asked]
    assert machine.counts(*asked) == [(n, n, 1) for n in expected]
    assert machine.counts(day(19), day(23)) == [(0, 0, 0)] * 2


def backfills(machine):
    return machine.api.get("/api/v2/backfills", dag_id="score_reviews", limit=100)["backfills"]


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
