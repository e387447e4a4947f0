"""Programs that try to lose an instance: chaos, crash points and fuzzing."""
