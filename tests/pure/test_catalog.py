"""The catalogue reads every row truly, filters by every field, and answers a wrong name with the right one."""

from __future__ import annotations

import pytest

from minicloud.base.errors import InvalidParameterValue
from minicloud.base.shape import Shape
from minicloud.compute.catalog import FAMILIES, Catalog, InstanceType, TypeFilter


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.load()


def names(types: list[InstanceType]) -> list[str]:
    return [kind.name for kind in types]


def test_all_types_and_families_are_there(catalog: Catalog) -> None:
    assert len(catalog) == 1345
    assert {kind.family for kind in catalog} == set(FAMILIES)
    assert {kind.arch for kind in catalog} == {"x86_64", "arm64"}
    assert names(catalog.find()) == sorted(names(catalog.find()))


def test_it_is_read_once(catalog: Catalog) -> None:
    assert Catalog.load() is catalog


def test_every_type_has_a_positive_shape_and_price(catalog: Catalog) -> None:
    for kind in catalog:
        assert kind.vcpus > 0 and kind.memory_mib > 0 and kind.on_demand_usd_per_hour > 0, kind.name
        assert (kind.gpus > 0) == bool(kind.gpu_name), kind.name
        assert (kind.local_storage_gb > 0) == bool(kind.storage_type), kind.name


def test_known_rows(catalog: Catalog) -> None:
    large = catalog.get("m5.large")
    assert (large.family, large.vcpus, large.memory_mib, large.arch) == ("general", 2, 8192, "x86_64")
    assert large.shape == Shape(2, 8192, 0.0, 0)
    assert large.on_demand_usd_per_hour == pytest.approx(0.096)
    fraction = catalog.get("g6f.large")
    assert (fraction.gpus, fraction.gpu_name) == (0.125, "L4")
    assert fraction.shape == Shape(2, 8192, 0.125, 94)  # 100 GB are 93.1 GiB
    assert catalog.get("t1.micro").arch == "x86_64"


def test_every_burstable_type_has_its_baseline(catalog: Catalog) -> None:
    metered = [kind for kind in catalog if kind.baseline_pct_per_vcpu is not None]
    assert metered == catalog.find(TypeFilter(burstable=True))
    assert len(metered) == 28
    # Credits earned an hour, as AWS prints them.
    for name, credits in {"t2.micro": 6, "t2.large": 36, "t2.2xlarge": 81.6, "t3.micro": 12, "t3.xlarge": 96}.items():
        kind = catalog.get(name)
        assert kind.baseline_pct_per_vcpu is not None
        assert kind.baseline_pct_per_vcpu / 100 * kind.vcpus * 60 == pytest.approx(credits), name


@pytest.mark.parametrize(
    ("wrong", "right"), [("m5.lage", "m5.large"), ("M5.LARGE", "m5.large"), ("t3micro", "t3.micro")]
)
def test_a_wrong_name_gets_the_nearest_one(catalog: Catalog, wrong: str, right: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        catalog.get(wrong)
    assert (caught.value.code, caught.value.field) == ("InvalidParameterValue", "instance_type")
    with pytest.raises(InvalidParameterValue, match=r"do not exist: \[.*\]") as described:
        Catalog.load().described("t3.mikro")
    assert described.value.code == "InvalidInstanceType"
    assert caught.value.message == f"Invalid value '{wrong}' for InstanceType. Did you mean '{right}'?"


def test_a_hopeless_name_is_cut_and_gets_no_suggestion(catalog: Catalog) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        catalog.get("?" * 100_000)
    assert caught.value.message == f"Invalid value '{'?' * 64}' for InstanceType."


def test_filters_combine(catalog: Catalog) -> None:
    found = catalog.find(
        TypeFilter(family="compute", arch="arm64", vcpus_min=4, vcpus_max=8, memory_mib_max=16384, usd_per_hour_max=0.2)
    )
    assert found
    for kind in found:
        assert kind.family == "compute" and kind.arch == "arm64"
        assert 4 <= kind.vcpus <= 8 and kind.memory_mib <= 16384 and kind.on_demand_usd_per_hour <= 0.2


def test_filters_by_name_and_gpu(catalog: Catalog) -> None:
    assert names(catalog.find(TypeFilter(name="m5.*", vcpus_max=4))) == ["m5.large", "m5.xlarge"]
    assert names(catalog.find(TypeFilter(gpu_name="h100", gpus_min=8))) == ["p5.48xlarge"]
    assert {kind.gpus for kind in catalog.find(TypeFilter(gpus_min=0.1, gpus_max=0.5))} == {0.125, 0.25, 0.5}


@pytest.mark.parametrize("field", ["burstable", "current_generation", "bare_metal"])
def test_flags_split_the_catalogue(catalog: Catalog, field: str) -> None:
    yes, no = (catalog.find(TypeFilter(**{field: flag})) for flag in (True, False))  # type: ignore[arg-type]
    assert yes and no
    assert sorted(names(yes + no)) == names(catalog.find())
    assert all(getattr(kind, field) for kind in yes)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"family": "banana"}, "family"),
        ({"arch": "mips"}, "arch"),
        ({"vcpus_min": 8, "vcpus_max": 4}, "vcpus_min"),
        ({"memory_mib_max": -1}, "memory_mib_max"),
        ({"usd_per_hour_max": float("nan")}, "usd_per_hour_max"),
    ],
)
def test_a_bad_filter_names_its_field(bad: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        TypeFilter(**bad)  # type: ignore[arg-type]
    assert caught.value.field == field
