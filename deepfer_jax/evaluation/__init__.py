"""Numbers: evaluation, calibration, corruptions, ensembles, reports and cards."""
