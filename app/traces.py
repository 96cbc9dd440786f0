"""A trace of each export by OpenTelemetry, from the caller's request through its lane to Asana and the store.

Where a collector is named by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`); without one
nothing is traced.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, StatusCode

COLLECTORS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
TRACEPARENT = "traceparent"

_tracer = trace.get_tracer("asana-exports")


class TracesMissing(Exception):
    """Traces are wanted, and what makes them is not installed."""


def set_up_traces(part: str) -> None:
    """Send what this part of the service traces to the collector, if there is one. Raises `TracesMissing`."""
    if not any(os.environ.get(name) for name in COLLECTORS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracesMissing(f"traces need `pip install 'asana-exports[traces]'` ({error})") from None

    class Discreet(SpanProcessor):
        """A query may hold the signature of an address."""

        def on_start(self, span: Span, parent_context: object = None) -> None:
            if span.attributes and "url.query" in span.attributes:
                span.set_attribute("url.query", "REDACTED")

    name = os.environ.get("OTEL_SERVICE_NAME") or f"asana-exports-{part}"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(Discreet())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


def traceparent() -> str | None:
    """The place in its trace of what goes on now, to be taken up elsewhere (W3C Trace Context)."""
    carrier = dict[str, str]()
    propagate.inject(carrier)
    return carrier.get(TRACEPARENT)


def note(**facts: str) -> None:
    """Tell of what goes on now what it is about."""
    trace.get_current_span().set_attributes(_named(facts))


@contextmanager
def span(name: str, *, of: str | None = None, calls: bool = False, **facts: str) -> Iterator[None]:
    """A step of what goes on now, or of the trace that is taken up; `calls` another service.

    Of errors only their kind is told: what they say may be long, and about others.
    """
    with _tracer.start_as_current_span(
        name,
        _taken_up(of),
        SpanKind.CLIENT if calls else SpanKind.INTERNAL,
        _named(facts),
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(StatusCode.ERROR)
            raise


def waited(name: str, *, of: str | None, since: datetime) -> None:
    """A step of a trace that has lasted since then, and is over now."""
    _tracer.start_span(name, _taken_up(of), start_time=int(since.timestamp() * 1e9)).end()


def _taken_up(of: str | None) -> Context | None:
    return propagate.extract({TRACEPARENT: of}) if of else None


def _named(facts: dict[str, str]) -> dict[str, str]:
    return {f"asana_exports.{name}": value for name, value in facts.items()}
