"""include/policy.toml as frozen values: limits, thresholds, gates.

Read once and passed explicitly. A key that is unknown, missing or of the wrong type is an error that names it.
No defaults here: the reviewed file is the only place where a number stands.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin

from sentiment_core.errors import Permanent

DRIFT_MODES = ("threshold", "evidence")
"""One night's verdict is enough for a retrain, or drift has to last, to harm, and to bring labels."""
_MAX_DAYS = 36_500  # a hundred years; much more would leave the calendar
_GONE_ROWS = ("keep", "remove")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Limits of what is read from S3."""

    batch_rows: int
    max_text_chars: int
    max_id_chars: int
    created_days_before: int
    raw_chars: int
    max_object_rows: int
    max_object_bytes: int
    max_growth: int
    free_bytes: int
    max_page_bytes: int
    max_columns: int


@dataclass(frozen=True, kw_only=True)
class Storage:
    """What is kept in PostgreSQL."""

    text_excerpt: int


@dataclass(frozen=True, kw_only=True)
class Retention:
    """For how many days things are kept; 0 keeps them for good."""

    excerpt_days: int
    review_days: int
    history_days: int
    sample_days: int
    quarantine_days: int
    report_days: int
    snapshot_days: int
    staging_days: int


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Limits of texts that are asked about, and of the API that is asked."""

    max_text_chars: int
    max_batch_texts: int
    max_body_bytes: int
    retry_seconds: float


@dataclass(frozen=True, kw_only=True)
class Nightly:
    """How a night is cut into tasks."""

    late_days: int
    sweep_days: int
    gone_rows: str
    batch_objects: int
    batch_bytes: int
    lease_seconds: float
    readers: int
    read_ahead_bytes: int
    late_folder_minutes: int


@dataclass(frozen=True, kw_only=True)
class Rescore:
    """What the plan of a rescore looks at, and counts with."""

    sample_rows: int
    sample_objects: int
    rows_per_second: int


@dataclass(frozen=True, kw_only=True)
class Drift:
    """When a night counts as drifted."""

    mode: str
    min_reviews: int
    sample_rows: int
    topics: int
    lens_words: int
    min_reference: int
    most_missing: float
    column_cut: float
    heavy_tail: float
    unnamed_tail: float
    least_named: float
    most_left_out: float
    warn_p: float
    warn_evidence: float
    evidence_nights: tuple[int, ...]
    evidence_ramps: tuple[int, ...]
    ramp_stake: float
    evidence_sizes: tuple[float, ...]
    evidence_days: int
    lasting_share: float
    baseline_nights: int
    season_nights: int
    season_lag: int
    season_days: int
    season_sizes: tuple[float, ...]
    season_volume: float
    retrain_p: float
    retrain_nights: int
    of_nights: int
    retrain_effect: float
    retrain_effect_small: float
    small_night: int
    min_fall: float
    fall_sigmas: float
    fall_factor: float
    fall_chance_sigmas: float
    doubt_sigmas: float
    mood_sigmas: float
    least_mood_gap: float
    labelled_p: float
    labelled_nights: int
    retrain_labels: int
    cooldown_nights: int
    told_effect: float
    quarantine_share: float
    quarantine_rows: int
    most_garbage: float
    salad_sigmas: float
    copies_searched: int
    copy_likeness: float
    copy_words: int
    copy_times: int
    gibberish_sigmas: float
    gibberish_strange_share: float


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """When and from what a candidate is trained."""

    schedule: str
    min_fresh_labels: int
    fresh_weight: float
    foreign_share: float
    latest_share: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """How a model is looked for."""

    trials: int
    rows_per_trial: int
    folds: int
    max_rows: int
    study_days: int
    short_text_chars: int
    even_share: float
    source_rows: int
    dictionary_terms: int
    dictionary_loss: float


@dataclass(frozen=True, kw_only=True)
class BehaviourLimits:
    """Share of its sentences on which each behavioural test may fail."""

    negation: float
    negation_direction: float
    paraphrase: float
    swap: float
    spelling: float
    minimum: float
    other: float


@dataclass(frozen=True, kw_only=True)
class PromotionGates:
    """What a candidate has to show."""

    held_out_share: float
    held_out_share_of_files: float
    max_held_out_rows: int
    min_fresh_rows: int
    fresh_folds: int
    alpha: float
    max_standing_loss: float
    min_f1_negative: float
    min_f1_neutral: float
    min_f1_positive: float
    min_class_rows: int
    max_ece: float
    max_slice_loss: float
    min_slice_rows: int
    min_reviews_per_second: int
    max_model_megabytes: int
    shadow_nights: int
    approval: bool
    approval_hours: int
    behaviour: BehaviourLimits


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The whole file."""

    reading: Reading
    storage: Storage
    retention: Retention
    serving: Serving
    nightly: Nightly
    rescore: Rescore
    drift: Drift
    retrain: Retrain
    search: Search
    promotion: PromotionGates


def read_policy(path: Path) -> Policy:
    """Parse and check the file; raises Permanent naming the key that is off."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Permanent(
            f"policy {path}", expected="a readable TOML file", found=str(error), remedy="correct the file, or SENTIMENT_POLICY"
        ) from error
    policy: Policy = _build(Policy, document, path, "")
    if policy.drift.mode not in DRIFT_MODES:
        expected = " or ".join(map(repr, DRIFT_MODES))
        raise Permanent(f"key drift.mode in {path}", expected=expected, found=repr(policy.drift.mode), remedy="correct it")
    _check_nights(policy.drift, path)
    for name, days in vars(policy.retention).items():
        if not 0 <= days <= _MAX_DAYS:
            raise Permanent(
                f"key retention.{name} in {path}", expected=f"days, 0 to {_MAX_DAYS:,}", found=str(days), remedy="correct it"
            )
    if policy.nightly.gone_rows not in _GONE_ROWS:
        expected = " or ".join(map(repr, _GONE_ROWS))
        found = repr(policy.nightly.gone_rows)
        raise Permanent(f"key nightly.gone_rows in {path}", expected=expected, found=found, remedy="correct it")
    return policy


def _build(cls: type[Any], values: dict[str, Any], path: Path, prefix: str) -> Any:
    known = {field.name: field.type for field in fields(cls)}
    for name in values.keys() - known.keys():
        raise Permanent(
            f"key {prefix}{name} in {path}", expected="one of " + ", ".join(known), found=name, remedy="remove or rename it"
        )
    built: dict[str, Any] = {}
    for name, kind in known.items():
        if name not in values:
            raise Permanent(f"key {prefix}{name} in {path}", expected="a value", found="nothing", remedy="add it")
        built[name] = _convert(kind, values[name], path, f"{prefix}{name}")
    return cls(**built)


def _check_nights(drift: Drift, path: Path) -> None:
    """Lists of nights and sizes that nothing could be computed with are refused here, and not in the middle of a night."""
    for name in ("evidence_nights", "evidence_ramps", "evidence_sizes", "season_sizes"):
        values = getattr(drift, name)
        if name.endswith("sizes"):
            expected, is_good = "numbers of at least 0", all(0 <= value < float("inf") for value in values)
        else:
            expected, is_good = "whole numbers of at least 1, each once", min(values) >= 1 and len(set(values)) == len(values)
        if not is_good:
            raise Permanent(f"key drift.{name} in {path}", expected=expected, found=str(list(values)), remedy="correct it")


def _convert(kind: Any, value: Any, path: Path, name: str) -> Any:
    if get_origin(kind) is tuple:
        if type(value) is list and value:
            return tuple(_convert(get_args(kind)[0], item, path, name) for item in value)
        expected = f"a list of values of type {get_args(kind)[0].__name__}, at least one"
        raise Permanent(f"key {name} in {path}", expected=expected, found=repr(value), remedy="correct it")
    if kind not in (int, float, bool, str):
        if isinstance(value, dict):
            return _build(kind, value, path, f"{name}.")
    elif kind is float and type(value) in (int, float):
        return float(value)
    elif type(value) is kind:
        return value
    raise Permanent(f"key {name} in {path}", expected=f"a value of type {kind.__name__}", found=repr(value), remedy="correct it")
