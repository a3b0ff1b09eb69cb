"""Models that were trained elsewhere: a RUN folder is checked whole, then written anew from what was understood."""

from wara.imports.bring import Brought, bring_in

__all__ = ["Brought", "bring_in"]
