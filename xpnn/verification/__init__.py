"""Whether all backends on this machine give the same bits, and where they part if not."""

from xpnn.testing.tracing import Tracing, trace
from xpnn.verification.canonical import (
    Canonical,
    as_json,
    canonical_runs,
    generated,
    run_canonical,
)
from xpnn.verification.compare import Difference, Verification, usable_backends, verify
from xpnn.verification.outputs import Outputs, Stage, verify_model
from xpnn.verification.record import Record, record

__all__ = [
    "Canonical",
    "Difference",
    "Outputs",
    "Record",
    "Stage",
    "Tracing",
    "Verification",
    "as_json",
    "canonical_runs",
    "generated",
    "record",
    "run_canonical",
    "trace",
    "usable_backends",
    "verify",
    "verify_model",
]
