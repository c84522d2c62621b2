"""Settings become what trains: rows, network, schedule and engine joined into a job, nothing written."""
