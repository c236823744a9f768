"""What a live /metrics shows, held against the vocabulary."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from inference_graph.metric_names import ALL_FIGURES


def check_vocabulary(text: str, service: str, without: tuple[str, ...] = ()) -> None:
    """The service exposes its metrics of the vocabulary, of their kinds, and no others.

    Args:
        text: what /metrics answered.
        service: who answered.
        without: what the service lacks, so that metrics that need it are absent.
    """
    expected = {one.name: one for one in ALL_FIGURES if service in one.by}
    shown = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if name.startswith("gearshift_"):
            shown[name] = family
    absent = {one.name for one in expected.values() if one.needs and one.needs in without}
    assert shown.keys() == expected.keys() - absent
    for name, family in shown.items():
        kind = expected[name].kind
        assert family.type == ("gauge" if kind == "info" else kind), name
        assert family.documentation == expected[name].text
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(expected[name].labels), sample
            if kind == "info":
                assert sample.value == 1
