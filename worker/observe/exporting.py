"""Where spans go: in batches, from a thread of their own, over OTLP/HTTP. Imported only when tracing is on."""

import logging
import uuid
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from worker.observe.tracing import Tracing

DEFAULT_SERVICE_NAME: Final = "dcs-migration-worker"
# They warn of what a sender wrote into a header, and repeat it.
_NOISY_LOGGERS: Final = ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext")


def start_tracing(endpoint: str, queue: str, version: str) -> Tracing:
    """Tracing of a worker on `queue`, exported to the collector at `endpoint` (its base URL).

    The other standard variables are read by OpenTelemetry itself: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and so on. Raises ValueError for what it refuses of them.
    """
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider, queue, version)


def _resource(version: str) -> Resource:
    """Who sends the spans; what the environment says of it goes first."""
    from_environment = Resource.create()
    defaults = {
        SERVICE_NAME: DEFAULT_SERVICE_NAME,
        "service.version": version,
        "service.instance.id": str(uuid.uuid4()),
    }
    if str(from_environment.attributes[SERVICE_NAME]).startswith("unknown_service"):
        from_environment = from_environment.merge(Resource({SERVICE_NAME: DEFAULT_SERVICE_NAME}))
    return Resource(defaults).merge(from_environment)
