"""The timetable of a DAG that runs once a night: which nights a backfill means by two moments.

Airflow's form shows dates in the reader's time zone and sends moments: who types 5 to 7 November in Los Angeles sends
the 5th 08:00 to the 8th 07:59:59 UTC, and would get the nights 6 to 8 from Airflow's own timetable. Nights are UTC
dates wherever one sits, so here a range means the dates that were typed.

This file is read by every process of Airflow: nothing heavy is imported, nothing of ours.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

from airflow.plugins_manager import AirflowPlugin
from airflow.timetables.base import DagRunInfo
from airflow.timetables.trigger import CronPartitionTimetable

# The moment of a UTC date at which it is the same date from Honolulu (midnight) to Auckland (23:00).
SAME_DATE = timedelta(hours=10)
DAY = timedelta(days=1)


class NightlyTimetable(CronPartitionTimetable):
    """Partitions by night; a range is taken as dates, in whichever time zone its ends were typed."""

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterable[DagRunInfo]:
        """One run for each night from the date that `earliest` means to the one that `latest` means, both included."""
        return super().iter_partition_dagrun_infos(
            earliest=_midnight(first_night(earliest)), latest=_midnight(last_night(latest))
        )


def first_night(moment: datetime) -> date:
    """The date whose beginning, somewhere on earth, a person meant by this moment.

    >>> first_night(datetime(2026, 11, 5, 8, tzinfo=UTC)), first_night(datetime(2026, 11, 4, 23, tzinfo=UTC))
    (datetime.date(2026, 11, 5), datetime.date(2026, 11, 5))
    """
    return (moment.astimezone(UTC) + DAY - SAME_DATE - timedelta.resolution).date()


def last_night(moment: datetime) -> date:
    """The date whose end, somewhere on earth, a person meant; or the bare date, which programs send as its midnight.

    >>> last_night(datetime(2026, 11, 8, 7, 59, 59, tzinfo=UTC)), last_night(datetime(2026, 11, 7, tzinfo=UTC))
    (datetime.date(2026, 11, 7), datetime.date(2026, 11, 7))
    """
    moment = moment.astimezone(UTC)
    return moment.date() if moment.time() == time() else (moment - SAME_DATE).date()


def _midnight(night: date) -> datetime:
    return datetime.combine(night, time(), UTC)


class TimetablePlugin(AirflowPlugin):
    """Tells Airflow of the timetable."""

    name = "sentiment timetable"
    timetables = [NightlyTimetable]  # noqa: RUF012 (Airflow's name)
