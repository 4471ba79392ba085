"""How the 5 % chance of a false alarm on a clean cohort is shared among everything that a report looks for.

Whatever a report shows as other than clear because of a test counts: an alarm of an audit, a flag of a label table, a
fall inside one source, a gap between groups, a group that is left to a person more often. Each family keeps its own
share, whatever its tests have to do with one another (Holm, or Bonferroni), so that all together keep theirs. An
external test is a family of its own.
"""

TOGETHER = 0.05
"""Chance of any false alarm in the report of a clean cohort."""

TABLES = 0.005
"""Of the label tables, each time they are counted: over all films of a run, and over the tested ones."""

FALLS = 0.005
"""Of pairs of findings that are told apart less well inside one source."""

GAPS = 0.01
"""Of figures that differ between levels of a group."""

UNEVEN = 0.005
"""Of groups that are left to a person more often than others."""

AUDITS = TOGETHER - 2 * TABLES - FALLS - GAPS - UNEVEN
"""Of the audits, by Holm over all of them."""
