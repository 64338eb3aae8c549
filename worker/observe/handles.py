"""Metrics whose children are bound once: an observation costs a dictionary look-up and the library's own addition."""

from collections.abc import Collection, Hashable, Iterable
from typing import Any, Final, Self, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from worker.observe.labels import OTHER_VALUE

NAMESPACE: Final = "dcs_worker"

K = TypeVar("K", bound=Hashable)
M = TypeVar("M", bound=MetricWrapperBase)


class LabelledMetric(dict[K, M]):
    """The children of a metric by label value (by a tuple of values if there are several labels).

    `known` has the values of each label; whatever else is asked for leads to the child of `other`.
    """

    def __init__(self, metric: M, *known_values: Collection[str]) -> None:
        super().__init__()
        self._metric = metric
        self._known_values = known_values

    def __missing__(self, key: K) -> M:
        values = key if isinstance(key, tuple) else (key,)
        bounded = [
            value if value in known_values else OTHER_VALUE
            for value, known_values in zip(values, self._known_values, strict=True)
        ]
        child = self._metric.labels(*bounded)
        if OTHER_VALUE not in bounded:
            self[key] = child
        return child

    def create_series(self, keys: Iterable[K]) -> Self:
        """Let the series of `keys` exist at 0, so that their first increase shows."""
        for key in keys:
            self[key]
        return self


class MetricFactory:
    """Makes metrics in one registry. Labels are given as name and known values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, description: str, **known_values: Collection[str]) -> LabelledMetric[Any, Counter]:
        """Make a counter."""
        return LabelledMetric(
            Counter(name, description, list(known_values), NAMESPACE, registry=self._registry), *known_values.values()
        )

    def histogram(
        self, name: str, description: str, buckets: tuple[float, ...], **known_values: Collection[str]
    ) -> LabelledMetric[Any, Histogram]:
        """Make a histogram; `buckets` are upper bounds."""
        metric = Histogram(name, description, list(known_values), NAMESPACE, registry=self._registry, buckets=buckets)
        return LabelledMetric(metric, *known_values.values())

    def gauges(self, name: str, description: str, **known_values: Collection[str]) -> LabelledMetric[Any, Gauge]:
        """Make a gauge with labels."""
        return LabelledMetric(
            Gauge(name, description, list(known_values), NAMESPACE, registry=self._registry), *known_values.values()
        )

    def gauge(self, name: str, description: str) -> Gauge:
        """Make a gauge without labels."""
        return Gauge(name, description, namespace=NAMESPACE, registry=self._registry)

    def gauge_without_value(self, name: str, description: str) -> None:
        """Make a gauge that is described but has no value."""
        self._registry.register(_Described(GaugeMetricFamily(f"{NAMESPACE}_{name}", description)))


class _Described(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        return (self._family,)
