"""Programs that try to lose an instance: chaos, crash points, fuzzing, malformed data sets."""
