"""What is saved of training, its file, the thread that writes it, and how a run resumes from it.

Nothing here trains; what a synchroniser saves and restores is its ``TrainingState``.
"""
