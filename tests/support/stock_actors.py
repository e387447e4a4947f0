"""The same no-op actor on stock dramatiq-pg, for comparison; run by `dramatiq stock_actors`."""

import os

import dramatiq
from dramatiq_pg import PostgresBroker

broker = PostgresBroker(
    url=os.environ["DATABASE_URL"], results=False, schema="stock", prefix="", middleware=[]
)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="q")
def noop(_number: int = 0) -> None:
    """Do nothing."""
