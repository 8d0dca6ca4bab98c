"""A vision-language model as the judge: questions, answers, errors."""
