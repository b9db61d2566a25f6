"""Evaluation of masks: metrics of a case, their summary over cases, paired comparison of two results."""
