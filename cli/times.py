"""Times and durations for people: see gateway/domain/times.py."""

from gateway.domain.times import DAY, HOUR, MINUTE, clock, dated, moment, since, span

__all__ = ["DAY", "HOUR", "MINUTE", "clock", "dated", "moment", "since", "span"]
