"""What a data set may keep of its patients: the width of the bands of ages, or nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("datasets") as table:
        table.add_column(sa.Column("age_band", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("datasets") as table:
        table.drop_column("age_band")
