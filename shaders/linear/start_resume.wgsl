// The state starts from what the state buffer holds.
const RESUMES: bool = true;
