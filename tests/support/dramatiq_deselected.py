"""The tests of Dramatiq's suite that are not run against the edge's broker, by reason and file."""

BROKER = "asks Redis or RabbitMQ itself: keys, scripts, channels, connections, parameters"
STUB = "asks StubBroker itself: its queues in memory, the exceptions that its `join` raises"
MIDDLEWARE = "counts the middleware, or wants Prometheus, which opens a port, in the list"
CONSUMER = "consumes outside of a worker"
PRIORITY = "gives an actor a priority beyond -4 to 3"
PICKLE = "encodes messages as something else than JSON"
CLOCK = "waits for processes by the clock, which a busy machine does not keep"
WATCH = "needs watchdog: starting anew when a source file changes is for development"

_BY_REASON: dict[str, dict[str, tuple[str, ...]]] = {
    BROKER: {
        "test_rabbitmq": (
            "test_ignore_scary_logs_filter_ignores_logs",
            "test_rabbitmq_actors_can_have_retry_limits",
            "test_rabbitmq_broker_can_be_passed_a_list_of_parameters_for_failover",
            "test_rabbitmq_broker_can_be_passed_a_list_of_uri_for_failover",
            "test_rabbitmq_broker_can_be_passed_a_semicolon_separated_list_of_uris",
            "test_rabbitmq_broker_can_enqueue_messages_with_priority",
            "test_rabbitmq_broker_connections_are_lazy",
            "test_rabbitmq_broker_raises_an_error_if_given_invalid_parameter_combinations",
            "test_rabbitmq_broker_reconnects_after_enqueue_failure",
            "test_rabbitmq_broker_retries_declaring_queues_when_connection_related_errors_occur",
            "test_rabbitmq_broker_retries_declaring_queues_when_declared_queue_disappears",
            "test_rabbitmq_broker_stops_retrying_declaring_queues_when_max_attempts_reached",
            "test_rabbitmq_channels_can_be_deleted_multiple_times",
            "test_rabbitmq_connections_can_be_deleted_multiple_times",
            "test_rabbitmq_messages_belonging_to_missing_actors_are_rejected",
            "test_rabbitmq_messages_that_failed_to_decode_are_rejected",
            "test_rabbitmq_workers_handle_rabbit_failures_gracefully",
            "test_urlrabbitmq_creates_instances_of_rabbitmq_broker",
        ),
        "test_redis": (
            "test_redis_broker_can_connect_via_client",
            "test_redis_broker_can_connect_via_url",
            "test_redis_broker_maintains_backwards_compat_with_old_acks",
            "test_redis_broker_warns_about_deprecated_parameters",
            "test_redis_consumer_ack_can_retry_on_connection_error",
            "test_redis_consumer_nack_can_retry_on_connection_error",
            "test_redis_consumer_nack_does_not_raise_on_missing_id",
            "test_redis_dead_lettered_messages_are_cleaned_up",
            "test_redis_join_race_condition",
            "test_redis_messages_belonging_to_missing_actors_are_rejected",
            "test_redis_messages_can_be_dead_lettered",
            "test_redis_requeues_unhandled_delay_messages_on_shutdown",
            "test_redis_requeues_unhandled_messages_on_shutdown",
            "test_redis_unacked_messages_can_be_requeued",
        ),
    },
    STUB: {
        "test_actors": ("test_actors_can_be_sent_messages",),
        "test_stub_broker": (
            "test_stub_broker_can_be_flushed",
            "test_stub_broker_join_reraises_actor_exceptions_in_the_joining_current_thread",
            "test_stub_broker_raises_queue_error_when_enqueueing_messages_on_undeclared_queues",
        ),
    },
    MIDDLEWARE: {
        "test_broker": (
            "test_broker_middleware_can_be_added_after_other_middleware",
            "test_broker_middleware_can_be_added_before_other_middleware",
            "test_can_instantiate_brokers_without_middleware",
        ),
    },
    CONSUMER: {
        "test_messages": ("test_messageproxy_representation",),
        "test_rabbitmq": ("test_rabbitmq_consumers_ignore_unknown_messages_in_ack_and_nack",),
    },
    PRIORITY: {
        "test_actors": ("test_actors_can_prioritize_work",),
    },
    PICKLE: {
        "test_encoders": ("test_pickle_encoder",),
    },
    CLOCK: {
        "test_cli": ("test_cli_can_be_reloaded_on_sighup",),
        "test_pidfile": (
            "test_cli_scrubs_stale_pid_files",
            "test_cli_with_pidfile_can_be_reloaded",
        ),
    },
    WATCH: {
        "test_watch": ("test_cli_can_watch_for_source_code_changes",),
    },
}

NOT_RUN = {
    f"{file}.py::{name}": reason
    for reason, files in _BY_REASON.items()
    for file, names in files.items()
    for name in names
}
"""Each test that is left out, with its reason; a parametrised one by its name."""
