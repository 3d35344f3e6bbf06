"""What all sections have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of a TOML file: settings that do not change, and an error for any that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)
