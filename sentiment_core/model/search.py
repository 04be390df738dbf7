"""The search for a recipe: Optuna's trials over the space, then the smallest dictionary that does as well.

The study may be kept in a database, so that a search that was killed goes on where it stood, until it is forgotten. The same rows and seed give
the same recipe, whether or not it was interrupted and however many cores there are. All of Optuna is here; what may be
tried stands in `candidates`, what a recipe is worth says `validation`.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pyarrow as pa
from optuna.trial import TrialState
from threadpoolctl import threadpool_limits

from sentiment_core.errors import Transient
from sentiment_core.families import Family
from sentiment_core.model.candidates import NGRAM_MAX, Brought, Profile, Recipe, told
from sentiment_core.model.validation import Examined, TermBank, Trainer, emphasis
from sentiment_core.policy import Search
from sentiment_core.trials import Trial

# A version of the space: what was tried in another one says nothing of this one.
_SPACE = 3
# Dictionaries beside that of the trials are so many times larger, and at last every term.
_TIMES = (2, 4)
# Trials are compared with the median of others from the second fold on: one fold alone differs by more than recipes do.
_FOLDS_BEFORE_PRUNING = 2
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """The outcome."""

    recipe: Recipe | Brought
    n_terms: int | None
    """Size of the dictionary, of words and of characters each; None is every term."""
    examined: Examined
    trials: tuple[Trial, ...]
    ladder: dict[str, float]
    """Cross-validated score by size of the dictionary."""
    profile: Profile
    study: str
    """Name under which the trials are kept, where they are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """What is learnt from: distinct texts with labels, weights, sources and folds."""

    texts: pa.LargeStringArray
    labels: npt.NDArray[Any]
    weights: npt.NDArray[np.float64]
    sources: Sequence[str | None]
    folds: npt.NDArray[np.int8]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256()
        words = json.dumps([self.labels.tolist(), list(self.sources)]).encode()
        for part in (*self.texts.buffers()[1:], self.weights.tobytes(), self.folds.tobytes(), words):
            digest.update(part)
        object.__setattr__(self, "digest", digest.hexdigest())


def search(
    rows: Rows,
    limits: Search,
    *,
    seed: int,
    storage: str | None = None,
    tell: Tell | None = None,
    families: tuple[Family, ...] = (),
) -> tuple[Found, TermBank]:
    """Find a recipe, and the terms that were counted on the way.

    Args:
        rows: what is learnt from.
        limits: trials, dictionary, and what texts count as short.
        seed: of everything that is left to chance.
        storage: SQLAlchemy URL of a database in which the study is kept; None keeps it in memory.
        tell: told in a few words how it goes.
        families: what is tried beside the linear ones.

    Raises:
        ValueError: no word stands in two texts.
        Transient: the database is away.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    profile = Profile.of(
        rows.texts, rows.labels, short_text_chars=limits.short_text_chars, even_share=limits.even_share, families=families
    )
    # All cores work on folds; a BLAS that wakes its threads for a calibration of two numbers takes three times as long alone,
    # and ten times beside others.
    with _database(), threadpool_limits(1):
        going = _Search(
            study=_study(rows, limits, seed, storage, [family.name for family in families]),
            texts=rows.texts,
            profile=profile,
            bank=TermBank(rows.texts, NGRAM_MAX),
            trainer=Trainer(
                labels=rows.labels,
                weights=rows.weights,
                folds=rows.folds,
                emphasis=emphasis(rows.sources, limits.source_rows),
                is_uneven=profile.is_uneven,
                seed=seed,
            ),
            limits=limits,
            seed=seed,
            tell=tell or (lambda _: None),
        )
        while (n_done := len(going.finished())) < going.n_trials:
            going.try_next(n_done)
        finished = going.finished()
        recipe = _recipe_of(min(finished, key=_loss), profile)
        n_terms, examined, ladder = going.smallest(recipe)
    trials = tuple(_trial(trial, profile) for trial in finished)
    found = Found(
        recipe=recipe,
        n_terms=n_terms,
        examined=examined,
        trials=trials,
        ladder=ladder,
        profile=profile,
        study=going.study.study_name,
    )
    return found, going.bank


def forget(storage: str, study: str, *, begun_before: datetime) -> list[str]:
    """Delete a study whose outcome is known, and those that were begun so long ago that nobody goes on with them.

    Args:
        storage: the database in which they are kept.
        study: name of the one that is done; it may be gone already.
        begun_before: naive local time, as Optuna notes it.

    Returns:
        The names of what was deleted.

    Raises:
        Transient: the database is away.
    """
    with _database():
        kept = optuna.get_all_study_summaries(storage, include_best_trial=False)
        done = [one.study_name for one in kept if one.study_name == study]
        stale = [one.study_name for one in kept if one.datetime_start and one.datetime_start < begun_before]
        for name in (gone := sorted({*done, *stale})):
            with suppress(KeyError):  # another retrain was quicker
                optuna.delete_study(study_name=name, storage=storage)
    return gone


def _loss(trial: Any) -> float:
    return float("inf") if trial.value is None else float(trial.value)


@contextmanager
def _database() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Optuna lets SQLAlchemy's errors through; naming their class would import a second vendor.
        if not isinstance(error, optuna.exceptions.StorageInternalError) and not type(error).__module__.startswith("sqlalchemy."):
            raise
        raise Transient(
            "database of the search",
            expected="an answer from the server that keeps the trials",
            found=f"{type(error).__name__}: {str(error).splitlines()[0]}",
            remedy="start it (`make up`), or search without a database; what was tried is kept",
        ) from error


def _study(rows: Rows, limits: Search, seed: int, storage: str | None, families: list[str]) -> Any:
    """The study of these rows, limits and seed: as it was left, or a new one."""
    name = hashlib.sha256(f"{_SPACE} {families} {seed} {rows.digest} {limits}".encode()).hexdigest()
    study = optuna.create_study(
        storage=storage,
        study_name=f"sentiment-{name[:32]}",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=_FOLDS_BEFORE_PRUNING - 1),
    )
    for stale in study.get_trials(states=(TrialState.RUNNING,)):  # its process was killed
        study.tell(stale.number, state=TrialState.FAIL)
    return study


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """A search under way."""

    study: Any
    texts: pa.LargeStringArray
    profile: Profile
    bank: TermBank
    trainer: Trainer
    limits: Search
    seed: int
    tell: Tell

    @property
    def n_trials(self) -> int:
        """The known recipes at least, where the policy allows as many."""
        wanted = max(len(self.profile.known()), len(self.trainer.folds) // self.limits.rows_per_trial)
        return min(self.limits.trials, wanted)

    def finished(self) -> list[Any]:
        return list(self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))

    def try_next(self, number: int) -> None:
        """Try one recipe more: one that is known, or what the sampler makes of those before."""
        known = self.profile.known()
        # Seeded anew for every trial: what comes next depends on what was found, not on whether this process found it.
        self.study.sampler = optuna.samplers.TPESampler(seed=self.seed * 10_007 + number, n_startup_trials=len(known))
        if number < len(known) and not self.study.get_trials(states=(TrialState.WAITING,)):
            self.study.enqueue_trial(self.profile.choices(known[number]))
        trial, started = self.study.ask(), time.monotonic()
        recipe = self.profile.recipe(trial)
        losses, scores = self._losses(trial, recipe)
        is_whole = scores is not None
        folds = self.trainer.examine(scores, recipe).folds if is_whole else [{"log_loss": loss} for loss in losses]
        trial.set_user_attr("folds", folds)
        trial.set_user_attr("seconds", time.monotonic() - started)
        mean = float(np.mean(losses))
        self.study.tell(trial, mean if is_whole else None, state=TrialState.COMPLETE if is_whole else TrialState.PRUNED)
        accuracy = f"accuracy {np.mean([fold['accuracy'] for fold in folds]):.4f}" if is_whole else "given up"
        self.tell(f"trial {number + 1} of {self.n_trials}: {recipe.family}, log loss {mean:.4f}, {accuracy}")

    def _losses(self, trial: Any, recipe: Recipe | Brought) -> tuple[list[float], Any]:
        """Loss of every fold, and the scores of all rows: None when the trial was pruned."""
        losses: list[float] = []
        scores: Any = None
        parts = self._parts(recipe, self.limits.dictionary_terms)
        for step, (inside, found) in enumerate(parts):
            scores = np.zeros((len(self.trainer.folds), found.shape[1])) if scores is None else scores
            scores[inside] = found
            losses.append(self.trainer.loss(inside, found, recipe))
            trial.report(float(np.mean(losses)), step)
            if trial.should_prune():
                parts.close()
                return losses, None
        return losses, scores

    def smallest(self, recipe: Recipe | Brought) -> tuple[int | None, Examined, dict[str, float]]:
        """The smallest dictionary of which the cross-validated score is within the policy's loss of the best."""
        found = [(size, self._examine(recipe, size)) for size in self._sizes(recipe)]
        best = max(examined.score for _, examined in found)
        size, examined = next((size, one) for size, one in found if one.score >= best - self.limits.dictionary_loss)
        return size, examined, {str(size or "all"): one.score for size, one in found}

    def _parts(self, recipe: Recipe | Brought, size: int | None) -> Any:
        """Rows and scores fold by fold, of a dictionary of so many terms where the family has one."""
        if isinstance(recipe, Brought):
            return self.trainer.fitted_scores(self.texts, self.profile.family(recipe.family), recipe)
        terms = self.bank.terms(recipe)
        return self.trainer.fold_scores(terms, recipe, size or terms.counts.shape[1])

    def _sizes(self, recipe: Recipe | Brought) -> list[int | None]:
        if isinstance(recipe, Brought):
            return [None]
        terms, least = self.bank.terms(recipe), self.limits.dictionary_terms
        n_most = max(len(terms.words), len(terms.characters))
        larger = [least * times for times in _TIMES if least * times < n_most]
        return [least, *larger, *([None] if least < n_most else [])]

    def _examine(self, recipe: Recipe | Brought, size: int | None) -> Examined:
        parts = list(self._parts(recipe, size))
        scores = np.zeros((len(self.trainer.folds), parts[0][1].shape[1]))
        for inside, part in parts:
            scores[inside] = part
        examined = self.trainer.examine(scores, recipe)
        self.tell(f"dictionary of {f'{size:,}' if size else 'all'} terms: {examined.score:.4f}")
        return examined


def _recipe_of(trial: Any, profile: Profile) -> Recipe | Brought:
    return profile.recipe(optuna.trial.FixedTrial(trial.params))


def _trial(trial: Any, profile: Profile) -> Trial:
    recipe, folds = _recipe_of(trial, profile), trial.user_attrs["folds"]
    means = {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]}
    return Trial(
        name=f"{trial.number}-{recipe.family}",
        family=recipe.family,
        params=told(recipe),
        metrics={"folds": folds, **means},
        mean=means["log_loss"] if trial.value is None else float(trial.value),
        seconds=float(trial.user_attrs["seconds"]),
        state=trial.state.name.lower(),
    )
