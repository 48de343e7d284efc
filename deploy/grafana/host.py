"""The page of the worker processes and the GPUs."""

from deploy.grafana.panels import Dashboard, Panel, Query, rate

HOST = Dashboard(
    "serving-host",
    "Serving: processes and GPU",
    "The worker processes, and the GPUs where there are any.",
    (
        (
            "Worker processes",
            (
                Panel(
                    "CPU",
                    "Cores that each worker uses; near 1, its event loop is full.",
                    (Query(rate("serving_worker_cpu_seconds_total", "instance, worker"), "{{instance}} {{worker}}"),),
                ),
                Panel(
                    "Resident memory",
                    "It must not grow without end.",
                    (Query('serving_worker_rss_bytes{job="$job"}', "{{instance}} {{worker}}"),),
                    "bytes",
                ),
                Panel(
                    "Lag of the event loop",
                    "Longest lateness of a timer in 15 seconds: something held up every request of this worker.",
                    (Query('serving_event_loop_lag_seconds{job="$job"}', "{{instance}} {{worker}}"),),
                    "s",
                ),
                Panel(
                    "Open file descriptors",
                    "Connections, mostly.",
                    (Query('serving_worker_open_fds{job="$job"}', "{{instance}} {{worker}}"),),
                    width=12,
                ),
                Panel(
                    "Up for",
                    "A worker that is young again was killed and replaced.",
                    (Query('time() - serving_worker_start_time_seconds{job="$job"}', "{{instance}} {{worker}}"),),
                    "s",
                    width=12,
                ),
            ),
        ),
        (
            "GPU",
            (
                Panel(
                    "Utilisation",
                    "Share of time in which a kernel ran.",
                    (
                        Query(
                            'max by (instance, gpu) (serving_gpu_utilization_ratio{job="$job"})', "{{instance}} {{gpu}}"
                        ),
                    ),
                    "percentunit",
                    width=12,
                    needs="GPU",
                ),
                Panel(
                    "Memory",
                    "In use, by whoever uses it, and in all.",
                    (
                        Query(
                            'max by (instance, gpu) (serving_gpu_memory_used_bytes{job="$job"})',
                            "{{instance}} {{gpu}} used",
                        ),
                        Query(
                            'max by (instance, gpu) (serving_gpu_memory_total_bytes{job="$job"})',
                            "{{instance}} {{gpu}} total",
                        ),
                    ),
                    "bytes",
                    width=12,
                    needs="GPU",
                ),
            ),
        ),
    ),
)
