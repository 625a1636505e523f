"""The truth and how well it is predicted: the likelihood ratio attack, what is memorized by it, and what told so early."""
