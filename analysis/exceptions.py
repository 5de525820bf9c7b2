"""Named errors of the analysis; each message says what was found and what to do."""

__all__ = [
    "AnalysisError",
    "CutNotOnEdgeError",
    "FitNotConvergedError",
    "FluxTableError",
    "HistogramMismatchError",
    "IncompleteDataError",
    "UnknownSpectrumError",
]


class AnalysisError(ValueError):
    """Input that the analysis cannot use."""


class CutNotOnEdgeError(AnalysisError):
    """A score cut or a control-region border lies inside a bin of the omega axis."""


class HistogramMismatchError(AnalysisError):
    """A histogram lacks an axis, a category or Σw², or its bins differ from its partner's."""


class FitNotConvergedError(AnalysisError):
    """A fit found no minimum."""

    exit_code = 3


class IncompleteDataError(AnalysisError):
    """The histograms do not hold everything that was planned, or the livetime is unusable."""


class FluxTableError(AnalysisError):
    """A flux-table file is malformed, or was changed after it was written."""


class UnknownSpectrumError(AnalysisError):
    """No published spectrum of that name is shipped."""
