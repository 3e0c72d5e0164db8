"""The search: chunk by chunk, expand the beams, evaluate the candidates, keep the best."""
