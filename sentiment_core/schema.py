"""Every name of a column, once: Arrow schemas, relations, comments.

Validation, COPY columns, fixtures, the data dictionary and the COMMENTs in PostgreSQL derive from this file, and
a test compares it with the live catalogue. Column grammar: `_at` timestamptz in UTC, `_date` a date, `_share` in
[0, 1], `n_` a count, `is_` a boolean, `p_` a probability. No I/O and no SQL beyond type names.
"""

from dataclasses import dataclass, replace

import pyarrow as pa

SCHEMA = "sentiment"
TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Field:
    """A column: `sql` is its PostgreSQL type, `arrow` its Arrow type where it ever travels in Arrow."""

    name: str
    sql: str
    comment: str
    arrow: pa.DataType | None = None
    nullable: bool = False


@dataclass(frozen=True)
class Relation:
    """A table or view of the schema `sentiment`."""

    name: str
    comment: str
    fields: tuple[Field, ...]
    is_view: bool = False
    is_public: bool = True
    """Named in the contract; the others are the machine's own."""

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names in the order of the table."""
        return tuple(field.name for field in self.fields)


def arrow_schema(*fields: Field) -> pa.Schema:
    """The Arrow schema of fields that travel in Arrow."""
    return pa.schema([pa.field(field.name, field.arrow, nullable=field.nullable) for field in fields])


# One definition for every column that stands in several places.
REVIEW_DATE = Field(
    "review_date", "date", "UTC date of created_at, else the date of the folder; half of a review's identity", pa.date32()
)
REVIEW_ID = Field("review_id", "text", "The sender's id; with review_date a review's identity", pa.string())
PRODUCT_ID = Field("product_id", "text", "What the review is about, where the sender says so", pa.string(), nullable=True)
SOURCE = Field("source", "text", "Where the review was written, where the sender says so", pa.string(), nullable=True)
CREATED_AT = Field("created_at", "timestamptz", "When the review was written; naive times mean UTC", TIMESTAMP, nullable=True)
RATING = Field("rating", "smallint", "Stars, 1 to 5", pa.int8(), nullable=True)
LANGUAGE = Field("language", "text", "Language the sender claims", pa.string(), nullable=True)
TEXT = Field("text", "text", "The review itself", pa.large_string())
ROW_NUMBER = Field("row_number", "bigint", "Place of the row in its object, from 0", pa.int64())
LABEL = Field("label", "text", "negative, neutral or positive", pa.string())
P_NEGATIVE = Field("p_negative", "double precision", "Probability that the review is negative", pa.float64())
P_NEUTRAL = Field(
    "p_neutral", "double precision", "Probability that it is neutral; null for binary models", pa.float64(), nullable=True
)
P_POSITIVE = Field("p_positive", "double precision", "Probability that the review is positive", pa.float64())
CONFIDENCE = Field("confidence", "double precision", "Probability of the label", pa.float64())
MODEL_NAME = Field("model_name", "text", "Registered model in MLflow")
MODEL_VERSION = Field("model_version", "integer", "Version of the registered model, pinned once a run")
SCORED_AT = Field("scored_at", "timestamptz", "When the score was computed")
RUN_ID = Field("run_id", "text", "The run that did it: Airflow's run id, or one made by the command line")
OBJECT_ID = Field("object_id", "bigint", "The S3 object version the row came from; see source_objects")
TEXT_EXCERPT = Field(
    "text_excerpt",
    "text",
    "Beginning of the text, as long as the policy allows; null when it allows none",
    pa.string(),
    nullable=True,
)
WINDOW_DATE = Field("window_date", "date", "The night: date of the folder, or the day a check judges")
METRICS = Field("metrics", "jsonb", "Figures behind the event", nullable=True)

# What `reviews` hands to `scoring`.
REVIEW_BATCH = arrow_schema(ROW_NUMBER, REVIEW_DATE, REVIEW_ID, PRODUCT_ID, SOURCE, CREATED_AT, RATING, LANGUAGE, TEXT)

# A late label as `reviews` hands it to `store`.
LABEL_BATCH = arrow_schema(
    ROW_NUMBER,
    replace(REVIEW_DATE, nullable=True),
    REVIEW_ID,
    LABEL,
    RATING,
    Field("labelled_at", "timestamptz", "When the label was given", TIMESTAMP),
)

# Statistics of a row that drift checks compare; they fall out of the scoring pass.
DRIFT_NUMERIC = (
    P_POSITIVE,
    Field("n_chars", "integer", "Characters of the text", pa.int32()),
    Field("n_words", "integer", "Words of the text", pa.int32()),
    Field("unknown_share", "real", "Share of its words that the model has never seen", pa.float32()),
    Field("upper_share", "real", "Share of its letters in upper case", pa.float32()),
    Field("non_letter_share", "real", "Share of its characters that are neither letters nor blanks", pa.float32()),
)
DRIFT_CATEGORICAL = (LABEL,)
DRIFT_COLUMNS = tuple(field.name for field in (*DRIFT_NUMERIC, *DRIFT_CATEGORICAL))

# Of the rows that may enter a drift sample only: what a model version's lens (`text.lens`) sees in a text.
LENS_NUMERIC = (
    Field("surprise", "real", "Mean surprise of its words in nats, by how frequent they are in training reviews", pa.float32()),
    Field("strange_share", "real", "Share of its words that are in no review the lens was made from", pa.float32()),
    Field("distinct_share", "real", "Distinct words as a share of all its words", pa.float32()),
    Field("negation_share", "real", "Share of its words that negate", pa.float32()),
    Field("n_sentences", "integer", "Ends of sentences", pa.int32()),
)
TOPICS = Field("topics", "real[]", "Place of the text among the topics of the training reviews", pa.list_(pa.float32()))
LENS_COLUMNS = tuple(field.name for field in (*LENS_NUMERIC, TOPICS))

# What `scoring` hands to `store` and `drift`.
SCORED_BATCH = arrow_schema(
    ROW_NUMBER, REVIEW_DATE, REVIEW_ID, PRODUCT_ID, SOURCE, CREATED_AT, RATING,
    LABEL, P_NEGATIVE, P_NEUTRAL, P_POSITIVE, CONFIDENCE, TEXT_EXCERPT,
    *DRIFT_NUMERIC[1:],
)  # fmt: skip

# A training set: what `snapshots/` holds and `model` trains from.
SNAPSHOT_FIELDS = (
    REVIEW_ID,
    PRODUCT_ID,
    SOURCE,
    TEXT,
    LABEL,
    Field(
        "origin",
        "text",
        "standing: from the set before; labelled since the champion was trained: fresh (of a domain that is foreign to it),"
        " familiar (of one that is not), latest (the last ones, held out); contradicted: people disagree, left out",
        pa.string(),
    ),
    Field("labelled_at", "timestamptz", "When the label arrived", TIMESTAMP, nullable=True),
)
SNAPSHOT = arrow_schema(*SNAPSHOT_FIELDS)
# Notes among a training set's metadata, each left out where the policy's default holds.
CLASSES_NOTE, HELD_OUT_NOTE = b"sentiment.classes", b"sentiment.held_out_share"

# The reference of a model version: drift columns of held-out rows, and what their labels were.
REFERENCE = arrow_schema(
    *DRIFT_NUMERIC, LABEL, CONFIDENCE,
    Field("known_confidence", "double precision", "Confidence that the label a person gave is held against", pa.float64()),
    Field("true_label", "text", "The label a person gave", pa.string()), PRODUCT_ID,
    *LENS_NUMERIC, TOPICS,
)  # fmt: skip

_SCORE_FIELDS = (
    REVIEW_DATE, REVIEW_ID, PRODUCT_ID, SOURCE, LABEL, P_NEGATIVE, P_NEUTRAL, P_POSITIVE, CONFIDENCE,
    MODEL_NAME, MODEL_VERSION, SCORED_AT, RUN_ID, OBJECT_ID, TEXT_EXCERPT,
)  # fmt: skip
_PLACE = Field("row_number", "bigint", "Place of the row in its object, from 0; null where it is not known", nullable=True)

SCORED_REVIEWS = Relation(
    "scored_reviews",
    "The current score of every review, one row an identity (review_date, review_id); partitioned by review_date",
    (*_SCORE_FIELDS, _PLACE),
)
SCORE_HISTORY = Relation(
    "score_history",
    "Scores that are no longer current (another model, a rewritten object), and shadow scores",
    (*_SCORE_FIELDS, Field("retired_at", "timestamptz", "When the score stopped being current"), _PLACE),
)
STAGED_REVIEWS = Relation(
    "staged_reviews",
    "Scored rows that wait for the publication of their date; one table a date",
    (*_SCORE_FIELDS, _PLACE),
    is_public=False,
)
RUNNER_UPS = Relation(
    "runner_ups",
    "Rows of live object versions that another object's row of the same review outranks; current again when that one goes",
    (*_SCORE_FIELDS, _PLACE),
    is_public=False,
)
SOURCE_OBJECTS = Relation(
    "source_objects",
    "The ledger: one row an S3 object version, in sequence per key",
    (
        OBJECT_ID,
        Field("bucket", "text", "S3 bucket"),
        Field("key", "text", "S3 key"),
        Field("sequence", "integer", "Which version of the key this is, from 1"),
        Field("etag", "text", "ETag of the listing, without quotes"),
        Field("size", "bigint", "Bytes"),
        Field("last_modified", "timestamptz", "LastModified of the listing"),
        WINDOW_DATE,
        Field("status", "text", "staged, scored, failed, superseded or gone"),
        Field("n_rows", "bigint", "Rows found in the object", nullable=True),
        Field("n_scored", "bigint", "Rows that were scored", nullable=True),
        Field("n_quarantined", "bigint", "Rows that were rejected; see quarantined_reviews", nullable=True),
        Field("reason", "text", "Why the object failed; null otherwise", nullable=True),
        Field("model_version", "integer", "Version that scored its rows last", nullable=True),
        Field("run_id", "text", "Run that handled it last", nullable=True),
        Field("scored_at", "timestamptz", "When its rows were published; null before", nullable=True),
        Field("is_removed", "boolean", "It is gone, and by the policy its rows with it; listed again, it is new"),
    ),
)
OBJECT_LEASES = Relation(
    "object_leases",
    "Who stages an object right now: a token that has to be handed back with what is staged",
    (
        Field("bucket", "text", "S3 bucket"),
        Field("key", "text", "S3 key"),
        Field("token", "bigint", "Number of the lease; its holder's session locks it, a later one replaces it"),
        RUN_ID,
        Field("expires_at", "timestamptz", "When anybody may take it over, unless it is renewed before"),
    ),
    is_public=False,
)
BATCH_OBJECTS = Relation(
    "batch_objects",
    "What a run has listed as new, cut into batches of about equal work",
    (
        WINDOW_DATE,
        RUN_ID,
        Field("batch", "integer", "Number of the batch in its run, from 0"),
        Field("place", "integer", "Place of the object in its batch, from 0"),
        Field("bucket", "text", "S3 bucket"),
        Field("key", "text", "S3 key"),
        Field("etag", "text", "ETag of the listing, without quotes"),
        Field("size", "bigint", "Bytes"),
        Field("last_modified", "timestamptz", "LastModified of the listing"),
        Field("listed_at", "timestamptz", "When the run listed it"),
    ),
    is_public=False,
)
SWEEPS = Relation(
    "sweeps",
    "A listing of every folder, old ones too, by which what was delivered or deleted late is found",
    (
        WINDOW_DATE,
        RUN_ID,
        Field("n_objects", "bigint", "Objects that were listed"),
        Field("swept_at", "timestamptz", "When"),
    ),
    is_public=False,
)
OBJECT_DATES = Relation(
    "object_dates",
    "Which dates an object version has rows in, and whether each has been published since it was staged",
    (
        OBJECT_ID,
        REVIEW_DATE,
        Field("n_rows", "bigint", "Rows of the object in that date"),
        Field("is_published", "boolean", "False until the date has been published with it"),
        Field("staged_at", "timestamptz", "scored_at of the rows staged last; null when the object has none here", nullable=True),
        Field("published_at", "timestamptz", "When the date was last published with it; null before", nullable=True),
    ),
    is_public=False,
)
QUARANTINED_REVIEWS = Relation(
    "quarantined_reviews",
    "A row that did not pass validation, with its reason; the row itself lies in the bucket under quarantine/",
    (
        OBJECT_ID,
        ROW_NUMBER,
        Field("review_id", "text", "The sender's id, where it could be read", nullable=True),
        Field("reason", "text", "What was expected and what was found"),
    ),
)
SCORING_RUNS = Relation(
    "scoring_runs",
    "A night's run",
    (
        WINDOW_DATE,
        RUN_ID,
        MODEL_VERSION,
        Field("n_objects", "integer", "Object versions it handled"),
        Field("n_scored", "bigint", "Rows it scored"),
        Field("n_quarantined", "bigint", "Rows it rejected"),
        Field("started_at", "timestamptz", "When it began"),
        Field("finished_at", "timestamptz", "When it ended; null while it runs", nullable=True),
        Field("status", "text", "running, succeeded, degraded (scored by the cached model, MLflow being away) or failed"),
    ),
)
DRIFT_CHECKS = Relation(
    "drift_checks",
    "A drift check of one date; later checks of the same date stand beside earlier ones",
    (
        Field("check_id", "bigint", "Number of the check; the report is at /sentiment/reports/{check_id}"),
        WINDOW_DATE,
        MODEL_VERSION,
        Field("n", "bigint", "Reviews of the date when it was judged"),
        Field("verdict", "text", "quiet, warn, retrain, quarantine or too_few"),
        Field(
            "p_value",
            "double precision",
            "How surprising the night is if nothing changed, corrected for the number of columns",
            nullable=True,
        ),
        Field("effect", "double precision", "Size of the largest change, on a scale that does not grow with n", nullable=True),
        Field("estimated_accuracy", "double precision", "Accuracy expected from the model's own probabilities", nullable=True),
        Field("labelled_accuracy", "double precision", "Accuracy on the reviews whose labels have arrived", nullable=True),
        Field(
            "columns", "jsonb", "By column: score (standard errors), shift, p_value, is_drifted, means; or why it was left out"
        ),
        Field("sentence", "text", "The verdict in words"),
        Field("report_url", "text", "Where the HTML report lies: s3://bucket/reports/...", nullable=True),
        Field("run_id", "text", "Run that made the check", nullable=True),
        Field("checked_at", "timestamptz", "When"),
        Field(
            "statistics",
            "jsonb",
            "Where the night lay on the axes of the reference; for the checks of later nights",
            nullable=True,
        ),
    ),
)
DRIFT_SKETCHES = Relation(
    "drift_sketches",
    "Mergeable statistics of the drift columns by object, date and model version, written with the rows",
    (
        OBJECT_ID,
        REVIEW_DATE,
        MODEL_VERSION,
        Field("n", "bigint", "Rows summed up here"),
        Field("moments", "jsonb", "By column: n, sum and sum of squares; by label: n"),
        Field(
            "sample",
            "bytea",
            "Arrow IPC stream: the rows with the smallest identity hashes (a uniform, mergeable sample) and their drift columns",
        ),
    ),
)
SHADOW_OBJECTS = Relation(
    "shadow_objects",
    "Which object versions a challenger has scored beside the champion; its scores lie in score_history",
    (
        OBJECT_ID,
        MODEL_VERSION,
        WINDOW_DATE,
        Field("n_scored", "bigint", "Rows it scored"),
        Field("n_agreed", "bigint", "Reviews on which it said what the current score said then"),
        RUN_ID,
        SCORED_AT,
    ),
    is_public=False,
)
RETRAIN_REQUESTS = Relation(
    "retrain_requests",
    "Which nights have set off a retrain; what came of it stands in model_events under the retrain's run",
    (
        WINDOW_DATE,
        RUN_ID,
        Field("retrain_run_id", "text", "The run of retrain_model that was set off"),
        MODEL_VERSION,
        Field("n_labels", "bigint", "Labels that there were then"),
        Field("requested_at", "timestamptz", "When"),
    ),
    is_public=False,
)
LABELS_RELATION = Relation(
    "labels",
    "What people said of a review: the latest label by identity",
    (
        REVIEW_DATE,
        REVIEW_ID,
        LABEL,
        Field("rating", "smallint", "Stars, 1 to 5, where the label came as a rating", nullable=True),
        Field("labelled_at", "timestamptz", "When the label was given"),
    ),
)
MODEL_EVENTS = Relation(
    "model_events",
    "What happened to a model version, and why",
    (
        Field("event_id", "bigint", "Order of the events"),
        Field("at", "timestamptz", "When"),
        MODEL_VERSION,
        Field("event", "text", "registered, promoted, held or rolled_back"),
        Field("reason", "text", "Why, in words"),
        METRICS,
        Field("snapshot", "text", "Key of the training set in the bucket", nullable=True),
        Field("code_version", "text", "Version of this code, with the commit where known", nullable=True),
        Field("run_id", "text", "Run that caused it", nullable=True),
    ),
)
RETENTION_MARKS = Relation(
    "retention_marks",
    "To how many characters the excerpts of a table have been cut, so that a night looks only at what has changed",
    (
        Field("leaf", "text", "Name of the table"),
        Field("excerpt_chars", "integer", "No excerpt in it was longer then"),
        Field("marked_at", "timestamptz", "When it was looked at"),
    ),
    is_public=False,
)
REMOVALS = Relation(
    "removals",
    "What retention has taken away: counts, never contents",
    (
        Field("removal_id", "bigint", "Order of the removals"),
        Field("at", "timestamptz", "When"),
        Field("run_id", "text", "Run that did it"),
        Field("what", "text", "Which things, as the policy's section retention and the counts of the DAG maintain name them"),
        Field("before_date", "date", "Things of this date and later were kept", nullable=True),
        Field("n", "bigint", "How many"),
    ),
    is_public=False,
)
SCHEMA_MIGRATIONS = Relation(
    "schema_migrations",
    "Migrations that have been applied, in order",
    (
        Field("version", "integer", "Number of the migration"),
        Field("name", "text", "Name of its file"),
        Field("sha256", "text", "Digest of the file as applied"),
        Field("applied_at", "timestamptz", "When"),
    ),
    is_public=False,
)

_N_REVIEWS = Field("n_reviews", "bigint", "Reviews")
_POSITIVE_SHARE = Field("positive_share", "double precision", "Share labelled positive", nullable=True)
DAILY_SENTIMENT = Relation(
    "daily_sentiment",
    "Volume and mood by date",
    (
        REVIEW_DATE,
        _N_REVIEWS,
        _POSITIVE_SHARE,
        Field("neutral_share", "double precision", "Share labelled neutral"),
        Field("negative_share", "double precision", "Share labelled negative"),
        Field("mean_confidence", "double precision", "Mean probability of the labels"),
        Field("n_products", "bigint", "Distinct products"),
        Field("model_versions", "integer[]", "Model versions that scored the date"),
    ),
    is_view=True,
)
PRODUCT_SENTIMENT = Relation(
    "product_sentiment",
    "Volume and mood by product",
    (
        PRODUCT_ID,
        _N_REVIEWS,
        _POSITIVE_SHARE,
        Field("mean_confidence", "double precision", "Mean probability of the labels"),
        Field("first_review_date", "date", "Date of its first review"),
        Field("last_review_date", "date", "Date of its latest review"),
    ),
    is_view=True,
)
MODEL_SCORECARD = Relation(
    "model_scorecard",
    "What each model version has done in production",
    (
        MODEL_VERSION,
        Field("n_scored", "bigint", "Reviews whose current score is its"),
        _POSITIVE_SHARE,
        Field("mean_confidence", "double precision", "Mean probability of its labels", nullable=True),
        Field("n_labelled", "bigint", "Of those, reviews whose label is known"),
        Field("accuracy", "double precision", "Share of them it got right; null while none is known", nullable=True),
        Field("promoted_at", "timestamptz", "When it last became champion", nullable=True),
    ),
    is_view=True,
)
DRIFT_HISTORY = Relation(
    "drift_history",
    "The latest drift check of every date",
    tuple(field for field in DRIFT_CHECKS.fields if field.name not in ("run_id", "statistics")),
    is_view=True,
)

RELATIONS = (
    SCORED_REVIEWS, SCORE_HISTORY, STAGED_REVIEWS, RUNNER_UPS, SOURCE_OBJECTS, OBJECT_DATES, QUARANTINED_REVIEWS, SCORING_RUNS,
    OBJECT_LEASES, BATCH_OBJECTS, SWEEPS,
    DRIFT_CHECKS, DRIFT_SKETCHES, SHADOW_OBJECTS, RETRAIN_REQUESTS, LABELS_RELATION, MODEL_EVENTS, RETENTION_MARKS, REMOVALS,
    SCHEMA_MIGRATIONS,
    DAILY_SENTIMENT, PRODUCT_SENTIMENT, MODEL_SCORECARD, DRIFT_HISTORY,
)  # fmt: skip
