// The state starts at zero.
const RESUMES: bool = false;
