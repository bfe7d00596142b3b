"""Counts, bins and leaders of each class's runs are kept, and so are counts of topics"""

import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision: str = "0033"
down_revision: str | None = "0032"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MAX_BINS = 600
MOMENT = sa.DateTime(timezone=True)
CLASS = ("project_id", "hardware_class")

# The best posterior among the commits that a class's first runs measured, as known now, in the order of its runs.
NUMBERED = """
    WITH numbered AS (
        SELECT runs.id, runs.outcome, runs.commit_sha, runs.created_at, posteriors.metric_mean, posteriors.metric_sd,
            row_number() OVER (ORDER BY runs.id) AS run_number,
            CASE WHEN runs.outcome = 'ok' AND runs.counts
                THEN runs.metric * CAST(:sign AS DOUBLE PRECISION) END AS cost,
            CASE WHEN posteriors.standing NOT IN ('held', 'rejected') THEN posteriors.rank_score END AS rank,
            min(CASE WHEN posteriors.standing NOT IN ('held', 'rejected') THEN posteriors.rank_score END)
                OVER (ORDER BY runs.id) AS lead
        FROM runs LEFT JOIN commit_posteriors AS posteriors
            ON posteriors.commit_sha = runs.commit_sha AND posteriors.hardware_class = runs.hardware_class
        WHERE runs.project_id = CAST(:project_id AS INTEGER) AND runs.hardware_class = CAST(:hardware_class AS VARCHAR)
    )
"""
BINS = f"""
    INSERT INTO progress_bins (project_id, hardware_class, number, first_run_id, last_run_id, runs, ok, crashed,
        timeout, stopped_early, invalid, best, best_run_id, "leading")
    {NUMBERED}, binned AS (
        SELECT numbered.*, (run_number - 1) / CAST(:width AS INTEGER) AS bin,
            min(cost) OVER (PARTITION BY (run_number - 1) / CAST(:width AS INTEGER)) AS lowest
        FROM numbered
    )
    SELECT CAST(:project_id AS INTEGER), CAST(:hardware_class AS VARCHAR), bin, min(id), max(id), count(*),
        count(*) FILTER (WHERE outcome = 'ok'),
        count(*) FILTER (WHERE outcome = 'crashed'), count(*) FILTER (WHERE outcome = 'timeout'),
        count(*) FILTER (WHERE outcome = 'stopped_early'), count(*) FILTER (WHERE outcome = 'invalid'),
        min(cost) * CAST(:sign AS DOUBLE PRECISION), min(CASE WHEN cost = lowest THEN id END),
        min(lead) * CAST(:sign AS DOUBLE PRECISION)
    FROM binned GROUP BY bin
"""  # noqa: S608  put together from constants
LEADERS = f"""
    INSERT INTO leader_changes (project_id, hardware_class, is_record, run_number, commit_sha, metric_mean, metric_sd,
        changed_at)
    {NUMBERED}, changes AS (
        SELECT numbered.*, lag(lead) OVER (ORDER BY id) AS lead_before FROM numbered
    )
    SELECT CAST(:project_id AS INTEGER), CAST(:hardware_class AS VARCHAR), CAST(:is_record AS BOOLEAN), run_number,
        commit_sha, metric_mean, metric_sd, created_at
    FROM changes WHERE rank = lead AND (lead_before IS NULL OR lead < lead_before) ORDER BY id
"""  # noqa: S608  put together from constants


def upgrade() -> None:
    op.create_index("ix_runs_class", "runs", [*CLASS, "id"])
    op.create_index("ix_findings_class_experiment", "findings", [*CLASS, "experiment_id"])
    counts = ("runs", "experiments", "through_run_id", "width")
    op.create_table(
        "class_progress",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("hardware_class", sa.String(200), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in counts),
        sa.Column("is_stale", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_class_progress_project_id_projects"),
        sa.PrimaryKeyConstraint(*CLASS, name="pk_class_progress"),
    )
    numbers = ("number", "first_run_id", "last_run_id", "runs", "ok", "crashed", "timeout", "stopped_early", "invalid")
    op.create_table(
        "progress_bins",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("hardware_class", sa.String(200), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in numbers),
        sa.Column("best", sa.Double()),
        sa.Column("best_run_id", sa.Integer()),
        sa.Column("leading", sa.Double()),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_progress_bins_project_id_projects"),
        sa.PrimaryKeyConstraint(*CLASS, "number", name="pk_progress_bins"),
    )
    op.create_table(
        "leader_changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("hardware_class", sa.String(200), nullable=False),
        sa.Column("is_record", sa.Boolean(), nullable=False),
        sa.Column("run_number", sa.Integer(), nullable=False),
        sa.Column("commit_sha", sa.String(40), nullable=False),
        sa.Column("metric_mean", sa.Double(), nullable=False),
        sa.Column("metric_sd", sa.Double(), nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_leader_changes_project_id_projects"),
        sa.PrimaryKeyConstraint("id", name="pk_leader_changes"),
    )
    op.create_index("ix_leader_changes_class", "leader_changes", [*CLASS, "is_record", "id"])
    verdicts = ("experiments", "improved", "no_change", "worse", "unresolved", "failed", "newest_id")
    op.create_table(
        "topic_counts",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("topic", sa.String(80), nullable=False),
        sa.Column("axis", sa.String(200), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in verdicts),
        sa.Column("newest_at", MOMENT, nullable=False),
        sa.Column("counted_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_topic_counts_project_id_projects"),
        sa.PrimaryKeyConstraint("project_id", "topic", name="pk_topic_counts"),
    )
    op.create_index("ix_topic_counts_newest", "topic_counts", ["project_id", "newest_id"])
    op.create_index("ix_topic_counts_counted", "topic_counts", ["counted_at"])
    _fill()


def _fill() -> None:
    connection = op.get_bind()
    classes = connection.execute(
        sa.text(
            """
            SELECT runs.project_id, runs.hardware_class, projects.contract, count(*) AS runs, max(runs.id) AS newest,
                sum(CASE WHEN runs.kind IN ('replicate', 'control', 'confirm', 'promote') THEN 0 ELSE 1 END) AS made
            FROM runs JOIN projects ON projects.id = runs.project_id
            GROUP BY runs.project_id, runs.hardware_class, projects.contract
            """
        )
    ).all()
    for one in classes:
        width = 1
        while width * MAX_BINS < one.runs:
            width *= 2
        given = {"project_id": one.project_id, "hardware_class": one.hardware_class}
        connection.execute(
            sa.text(
                """
                INSERT INTO class_progress
                    (project_id, hardware_class, runs, experiments, through_run_id, width, is_stale)
                VALUES (:project_id, :hardware_class, :runs, :made, :newest, :width, :is_stale)
                """
            ),
            given | {"runs": one.runs, "made": one.made, "newest": one.newest, "width": width, "is_stale": False},
        )
        sign = _read_sign(one.contract)
        connection.execute(sa.text(BINS), given | {"sign": sign, "width": width})
        connection.execute(sa.text(LEADERS), given | {"sign": sign, "is_record": False})
    connection.execute(
        sa.text(
            """
            INSERT INTO topic_counts (project_id, topic, axis, experiments, improved, no_change, worse, unresolved,
                failed, newest_id, newest_at, counted_at)
            SELECT experiments.project_id, experiments.topic, min(experiments.axis), count(*),
                count(*) FILTER (WHERE posteriors.verdict = 'improved'),
                count(*) FILTER (WHERE posteriors.verdict = 'no_change'),
                count(*) FILTER (WHERE posteriors.verdict = 'worse'),
                count(*) FILTER (WHERE posteriors.verdict = 'unresolved'),
                count(*) FILTER (WHERE findings.failure IS NOT NULL),
                max(experiments.id), max(experiments.created_at), :moment
            FROM experiments JOIN findings ON findings.experiment_id = experiments.id
            LEFT JOIN commit_posteriors AS posteriors ON posteriors.commit_sha = experiments.commit_sha
                AND posteriors.hardware_class = findings.hardware_class
            GROUP BY experiments.project_id, experiments.topic
            """
        ).bindparams(sa.bindparam("moment", type_=MOMENT)),
        {"moment": datetime.now(UTC)},
    )


def _read_sign(contract: str) -> float:
    """1 where a lower metric is better, else -1."""
    try:
        direction = tomllib.loads(contract).get("objective", {}).get("direction", "minimize")
    except tomllib.TOMLDecodeError:
        return 1.0
    return -1.0 if direction == "maximize" else 1.0
