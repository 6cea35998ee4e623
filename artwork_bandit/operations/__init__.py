"""What runs several flows in order: retraining, judging, importing, the demo."""
