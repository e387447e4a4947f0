"""The worker application's settings from its environment."""

import pytest

from worker_app.settings import Complete, Output, ResultUnit, SettingsError, read


def test_only_the_ae_title_is_required() -> None:
    """Everything else has a default for the lab."""
    settings = read({"WORKER_AE_TITLE": "APP01"})
    assert settings.ae_title == "APP01"
    assert (settings.gateway_host, settings.gateway_port) == ("127.0.0.1", 11112)
    assert settings.gateway_ae_title == "MINI_EDGE"
    assert settings.delay_seconds == 0
    assert settings.status == 0
    assert settings.returns_results
    assert (settings.unit, settings.output) == (ResultUnit.INSTANCE, Output.IMAGES)


def test_every_setting_is_read() -> None:
    """Each variable sets what it is named for."""
    settings = read(
        {
            "WORKER_AE_TITLE": "APP 5",
            "WORKER_BIND_ADDRESS": "127.0.0.1",
            "WORKER_PORT": "11205",
            "GATEWAY_HOST": "edge",
            "GATEWAY_PORT": "104",
            "GATEWAY_AE_TITLE": "EDGE2",
            "WORKER_DELAY_SECONDS": "12.5",
            "WORKER_STATUS": "0xA700",
            "WORKER_RESULTS": "off",
            "WORKER_UNIT": "series",
            "WORKER_COMPLETE": "association",
            "WORKER_QUIET_SECONDS": "0.5",
            "WORKER_OUTPUT": "seg",
        }
    )
    assert (settings.ae_title, settings.bind_address, settings.port) == ("APP 5", "127.0.0.1", 11205)
    assert (settings.gateway_host, settings.gateway_port, settings.gateway_ae_title) == ("edge", 104, "EDGE2")
    assert settings.delay_seconds == 12.5
    assert settings.status == 0xA700
    assert not settings.returns_results
    assert (settings.unit, settings.complete, settings.quiet_seconds, settings.output) == (
        ResultUnit.SERIES,
        Complete.ASSOCIATION,
        0.5,
        Output.SEG,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_AE_TITLE", ""),
        ("WORKER_AE_TITLE", "SEVENTEEN_LETTERS"),
        ("WORKER_AE_TITLE", "BACK\\SLASH"),
        ("WORKER_AE_TITLE", " APP01"),
        ("GATEWAY_AE_TITLE", "X" * 17),
        ("WORKER_PORT", "0"),
        ("WORKER_PORT", "65536"),
        ("WORKER_PORT", "port"),
        ("GATEWAY_PORT", "-1"),
        ("WORKER_DELAY_SECONDS", "-1"),
        ("WORKER_DELAY_SECONDS", "nan"),
        ("WORKER_DELAY_SECONDS", "soon"),
        ("WORKER_STATUS", "A7000"),
        ("WORKER_STATUS", "xyz"),
        ("WORKER_RESULTS", "no"),
        ("WORKER_UNIT", "study"),
        ("WORKER_COMPLETE", "count"),
        ("WORKER_QUIET_SECONDS", "-1"),
        ("WORKER_OUTPUT", "pdf"),
        ("WORKER_OUTPUT", "sr"),  # without WORKER_UNIT=series
    ],
)
def test_a_refused_value_names_its_variable(name: str, value: str) -> None:
    """The message names the variable."""
    with pytest.raises(SettingsError, match=name):
        read({"WORKER_AE_TITLE": "APP01", name: value})
