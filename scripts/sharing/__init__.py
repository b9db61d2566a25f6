"""The parts of `package_bundle.py --model_dir`: reading a run, its evaluation, model card and metadata."""
