"""Jobs: their order, pauses, signs of life, parts of a batch, and what happened to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = ("priority", "place", "pause_requested", "paused_for", "beat", "accumulate")


def upgrade() -> None:
    """Apply."""
    for column in (
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("place", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("pause_requested", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("paused_for", sa.String(length=16), nullable=True),
        sa.Column("beat", sa.DateTime(), nullable=True),
        sa.Column("accumulate", sa.Integer(), nullable=False, server_default="1"),
    ):
        op.add_column("jobs", column)
    op.create_table(
        "job_happenings",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_job_happenings_job_id", "job_happenings", ["job_id"])
    # Those that wait keep their order: no two have one place, or none could go before another.
    jobs = sa.table("jobs", sa.column("id", sa.String()), sa.column("place", sa.BigInteger()), sa.column("created"))
    connection = op.get_bind()
    for place, job_id in enumerate(connection.scalars(sa.select(jobs.c.id).order_by(jobs.c.created, jobs.c.id)).all()):
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(place=place))


def downgrade() -> None:
    """Take back."""
    op.drop_table("job_happenings")
    with op.batch_alter_table("jobs") as table:
        for column in COLUMNS:
            table.drop_column(column)
