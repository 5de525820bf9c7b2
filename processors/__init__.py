"""Events to histograms: ntuple schema, geometry, selections, scores, the coffea processor."""
