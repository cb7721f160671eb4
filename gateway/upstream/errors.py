"""What can go wrong between the gateway and a model; the messages say nothing about who runs it where."""

from gateway.errors import NusagateError


class UpstreamUnreachable(NusagateError):
    """The model cannot be reached at the moment.

    No connection came about, so nothing was sent and another upstream may be tried.
    """

    code = "upstream_unavailable"


class UpstreamReset(NusagateError):
    """The connection to the model broke, or its answer was not valid HTTP."""

    code = "upstream_error"


class UpstreamAnswerTooLarge(NusagateError):
    """The model's answer is larger than the gateway accepts."""

    code = "upstream_error"


class UpstreamTimeout(NusagateError):
    """The model did not answer in time."""

    code = "upstream_timeout"
