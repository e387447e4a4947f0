"""`dramatiq support.no_poll`: the edge's actors, with consumers that do not poll.

Usually a consumer looks into its queue each second, also if nothing wakes it. Here it does so each ten
minutes. A message that runs within the test was then found because of a notification, or because the consumer
waited for its due time. So the test sees what woke the consumer, and needs no time limit. `queue_actors`
imports this module if NO_POLL is set.
"""

import actors
import actors.queue.consumer
import actors.queue.reaper

LONG_SECONDS = 600.0
"""Must exceed the deadline of every test."""

actors.queue.consumer.POLL_SECONDS = LONG_SECONDS
actors.queue.reaper.CHECK_SECONDS = LONG_SECONDS  # each check ends the wait as well
