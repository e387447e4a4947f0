"""The healer that runs each minute. Each verb is idempotent, returns counts, and can run alone and dry.

rescue      in flight with nobody working on it → pending with a message
reconcile   pending without a message · file without a row · file in the wrong place · row without a file
expire      results overdue that no message caught
purge       delivered files and rows past their retention; never anything undelivered

Nothing depends on it from minute to minute: claims of the dead are taken over by other actors within
seconds, deadlines have messages of their own. It is the net below them.
"""
